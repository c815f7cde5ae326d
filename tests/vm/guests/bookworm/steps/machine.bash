# shellcheck shell=bash disable=SC2016,SC2088  # inner shells expand what they are given
# The guest is what the lane says it is; without this the rest would prove nothing.
# needed

test_systemd_is_the_init_and_cgroup_v2_is_alone() {
    equal systemd "$(cat /proc/1/comm)"
    equal cgroup2fs "$(stat -f -c %T /sys/fs/cgroup)"
}

test_alice_has_every_controller_and_bob_those_of_debian() {
    local mine=/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service
    contains " $(cat $mine/cgroup.controllers) " " cpuset " " cpu " " io " " memory " " pids "
    local said
    said=$(login bob 'cat /sys/fs/cgroup/user.slice/user-1001.slice/user@1001.service/cgroup.controllers')
    echo "$said"
    contains " $said " " cpu " " memory " " pids "
    lacks " $said " " io "
    lacks " $said " " cpuset "
}

test_a_login_is_a_session() {
    local said
    said=$(login bob 'loginctl --no-pager show-session "$XDG_SESSION_ID" -p Class -p Scope -p Name; cat /proc/self/cgroup; echo $XDG_RUNTIME_DIR')
    echo "$said"
    contains "$said" "Class=user" "Name=bob" "Scope=session-" "/user.slice/user-1001.slice/session-" "/run/user/1001"
}

test_who_stays_after_logging_out() {
    equal yes "$(loginctl show-user alice -p Linger --value)" alice
    gone bob
}

test_images_are_there() {
    rootless load -i "$LANE/images/busybox"
    contains "$(rootless images)" busybox
}

test_doctor_finds_the_best_rungs() {
    local said
    said=$(rootless doctor)
    echo "$said"
    contains "$said" "storage: overlay" "containers can run here"
}
