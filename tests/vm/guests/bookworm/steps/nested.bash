# shellcheck shell=bash disable=SC2016,SC2088  # inner shells expand what they are given
# A container whose first process is systemd: its group is delegated to it, and so down to units of its own.

test_debian_with_systemd_is_loaded() {
    rootless load -q -i "$LANE/images/debian"
    contains "$(rootless images)" debian
}

is_up() {
    case $(rootless exec init systemctl is-system-running) in
    running | degraded) ;;
    *) return 1 ;;
    esac
}

test_it_comes_up() {
    rootless run -d --name init --privileged --stop-signal SIGRTMIN+3 -e container=docker -m 500m debian:12 /sbin/init
    wait_until 150 is_up
    rootless exec init systemctl --no-pager --failed
    equal systemd "$(rootless exec init cat /proc/1/comm)"
}

test_units_have_groups_with_limits() {
    rootless exec init systemd-run -q --unit=inner -p MemoryMax=20M -p TasksMax=7 sleep 1000
    local pid outside
    pid=$(rootless exec init systemctl show -P MainPID inner)
    equal 0::/system.slice/inner.service "$(rootless exec init cat "/proc/$pid/cgroup")"
    outside=$(scopes)/container/system.slice/inner.service
    equal "20971520|7" "$(cat "$outside/memory.max")|$(cat "$outside/pids.max")"
    equal 524288000 "$(cat "${outside%/system.slice/*}/memory.max")" "the container's own"
}

test_what_is_executed_is_in_the_container_too() { # a group with groups below it takes no processes itself
    local where
    where=$(rootless exec init cat /proc/self/cgroup)
    echo "$where"
    contains "$where" 0::/
    lacks "$where" ..
}

test_pause_and_statistics_take_in_all_of_it() {
    local said
    said=$(rootless stats --no-stream --format '{{.PIDs}}' init)
    [ "$said" -ge 4 ] || fail "PIDs: $said"
    rootless pause init
    equal 1 "$(sed -n 's/^frozen //p' "$(scopes)/container/system.slice/inner.service/cgroup.events")"
    rootless unpause init
}

test_it_shuts_down_in_order() {
    rootless stop -t 60 init
    local status
    status=$(rootless inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}}' init)
    echo "$status"
    rootless rm init
    equal "" "$(scopes)"
}
