# shellcheck shell=bash disable=SC2016,SC2088  # inner shells expand what they are given
# A piece of the test suite, on this Python and this kernel.

pytest() { # ARGUMENTS: with the packages of the installed environment and those of the tests
    as_user sh -c 'cd checkout && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD:$HOME/testing exec \
        ~/.local/lib/rootless/current/env/bin/python -m pytest -q -p no:cacheprovider "$@"' sh "$@"
}

test_what_the_tests_need() {
    as_user sh -c '~/.local/lib/rootless/current/env/bin/python -m pip install -q --disable-pip-version-check \
        --target ~/testing pytest hypothesis pytest-xdist pexpect jeepney "tomli>=2"'
    as_user sh -c 'cd checkout && make -s -C helpers install'
}

test_unit() { # what is tried on values at random, or against the oracle of filters, would take minutes and depends on no kernel
    pytest -n 2 --dist loadfile -m "not hypothesis" --ignore tests/unit/test_vm_lane.py \
        --ignore tests/unit/test_plan_seccomp_oracle.py --durations 15 tests/unit
}

test_contract() { pytest -n 2 tests/contract/test_snapshot.py -k "not hundred" --durations 15; }
