# shellcheck shell=bash
# The guest is what the lane says it is; without this the rest would prove nothing.
# needed

test_the_kernel_is_5_10() {
    contains "$(uname -r)" 5.10.
}

test_python_is_3_9() {
    contains "$(python3 --version)" "Python 3.9."
}

test_no_overlay_in_a_user_namespace() {
    modprobe overlay
    as_user mkdir -p lower upper work merged
    refused as_user unshare -Urm mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged
}

test_user_namespaces_are_there() {
    equal 0 "$(as_user unshare -Ur id -u)"
}

test_there_is_no_network() {
    equal lo "$(ls /sys/class/net)"
}
