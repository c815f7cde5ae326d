# shellcheck shell=bash disable=SC2016,SC2088  # inner shells expand what they are given
# boots
# After a reboot of the machine the containers run that Docker would have started, and no others.

test_the_boot_is_another() {
    refused grep -qx "$(cat "$LANE_STATE/boot")" /proc/sys/kernel/random/boot_id
}

states() { rootless ps -a --format '{{.Names}}={{.State}}' | sort | tr '\n' ' '; }

resumed() {
    equal "always=running no=exited on-failure=exited stopped-always=running stopped-unless-stopped=exited unless-stopped=running " \
        "$(states)"
}

test_a_unit_of_the_user_has_done_it() {
    of systemd
    wait_until 60 systemctl -q is-active user@1000
    wait_until 60 as_user systemctl --user -q is-active rootless-resume.service
    equal 3 "$(find /sys/fs/cgroup/user.slice/user-1000.slice -name container -path '*/rootless-*.scope/*' | wc -l)"
    resumed # and not the command that looks
}

test_the_first_command_does_it_in_a_job() {
    of cgroupfs
    wait_until 60 resumed
    equal 3 "$(find /sys/fs/cgroup/system.slice/job.service -name 'rootless-*' ! -name rootless-inner | wc -l)"
}

test_the_first_command_does_it_where_there_are_no_groups() {
    of none
    wait_until 60 resumed
}
