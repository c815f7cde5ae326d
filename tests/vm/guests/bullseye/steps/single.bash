# shellcheck shell=bash disable=SC2016,SC2088  # inner shells expand what they are given
# The last rung: without newuidmap one ID is mapped, and ownership is emulated; the same images run.

test_the_rung_above_is_gone() {
    rm /usr/bin/newuidmap /usr/bin/newgidmap
}

test_doctor_names_what_is_missing() {
    local said
    said=$(rootless doctor)
    echo "$said"
    contains "$said" "IDs: single" newuidmap "uidmap" "containers can run here"
}

test_debian_runs() {
    contains "$(rootless run --rm debian:11 sh -c 'cat /etc/os-release; python3 --version')" bullseye "Python 3.9"
}

test_one_id_is_mapped() {
    equal "1" "$(rootless run --rm busybox sh -c 'wc -l < /proc/self/uid_map')"
    contains "$(rootless run --rm busybox cat /proc/self/uid_map)" " 1"
}

test_ownership_calls_succeed() {
    rootless run --rm busybox sh -euc 'touch /f; chown 5:6 /f; chgrp 7 /f; mknod /null c 1 3'
    rootless run --rm debian:11 sh -euc 'useradd -m other; chown -R other: /srv; su other -c true'
    refused rootless run --rm busybox chown 5:6 /missing
}

test_a_package_is_installed_in_debian() {
    local said
    said=$(rootless run --name cron --network none debian:11 sh -euc \
        'dpkg -i /srv/debs/*.deb >/dev/null && hello && dpkg -s cron' 2>&1)
    echo "$said"
    contains "$said" "Hello, world!" "Status: install ok installed"
}

test_a_commit_has_the_owners() {
    rootless commit cron cron:single
    rootless rm cron
    rootless create --name owners cron:single
    local listed
    listed=$(as_user sh -c '~/.local/bin/rootless export owners | tar -tv --numeric-owner')
    listed=$(grep -E ' (usr/bin/crontab|var/spool/cron/crontabs/)$' <<<"$listed")
    echo "$listed"
    rootless rm owners
    local group
    group=$(rootless run --rm cron:single sed -n 's/^crontab:x:\([0-9]*\):.*/\1/p' /etc/group)
    contains "$listed" "-rwxr-sr-x 0/$group" "drwx-wx--T 0/$group"
}

test_nothing_is_left_running() {
    equal "" "$(rootless ps -aq)"
}
