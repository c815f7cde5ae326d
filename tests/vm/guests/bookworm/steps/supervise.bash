# shellcheck shell=bash disable=SC2016,SC2088  # inner shells expand what they are given
# Beside systemd: its manager executed anew, its journal.


test_a_manager_executed_anew_changes_nothing() {
    rootless run -d --name under -m 64m --pids-limit 50 busybox sh -c 'while :; do echo tick; sleep 1; done'
    local manager group
    manager=$(systemctl show -P MainPID user@1000)
    group=$(scopes)
    as_user systemctl --user daemon-reexec
    as_user systemctl --user daemon-reload
    equal "$manager" "$(systemctl show -P MainPID user@1000)"
    equal "$group" "$(scopes)"
    equal "67108864|50" "$(cat "$group/container/memory.max")|$(cat "$group/container/pids.max")"
    equal 67108864 "$(rootless exec under cat /sys/fs/cgroup/memory.max)"
    rootless update -m 80m --memory-swap 80m under
    equal 83886080 "$(cat "$group/container/memory.max")"
    contains "$(as_user systemctl --user --no-pager list-units 'rootless-*')" "rootless container under" running
    rootless rm -f under
    wait_until 10 test ! -e "$group"
}

ended() { equal exited "$(rootless inspect -f '{{.State.Status}}' ended)"; }

test_systemctl_stop_is_a_stop() { # a person may end the unit
    rootless run -d --name ended busybox sh -c 'trap "exit 7" TERM; while :; do sleep 0.2; done'
    as_user systemctl --user stop "$(basename "$(scopes)")"
    wait_until 20 ended
    rootless inspect -f '{{.State.ExitCode}}' ended
    rootless rm ended
}

test_the_journal_takes_logs() {
    rootless run --name told --log-driver journald --log-opt tag=lane-tag busybox sh -c 'echo to out; echo to err >&2'
    equal journald "$(rootless inspect -f '{{.HostConfig.LogConfig.Type}}' told)"
    local id said
    id=$(rootless inspect -f '{{.Id}}' told)
    wait_until 20 sh -c "journalctl --no-pager -q CONTAINER_NAME=told | grep -q 'to err'"
    said=$(journalctl --no-pager -q -o json CONTAINER_ID_FULL="$id")
    echo "$said"
    contains "$said" '"CONTAINER_NAME":"told"' '"CONTAINER_TAG":"lane-tag"' '"MESSAGE":"to out"' '"PRIORITY":"6"' '"MESSAGE":"to err"' '"PRIORITY":"3"' '"_UID":"1000"'
    equal $'to err\nto out' "$(rootless logs told 2>&1 | sort)"
    rootless rm told
}
