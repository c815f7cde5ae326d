# shellcheck shell=bash disable=SC2016,SC2088  # inner shells expand what they are given
# Neither a manager nor a delegated group: containers run, and nothing is pretended.

become dave

test_it_is_chosen_by_itself() {
    rootless load -q -i "$LANE/images/busybox"
    equal none "$(rootless info -f '{{.CgroupDriver}}')"
    local said
    said=$(rootless doctor)
    echo "$said"
    contains "$said" "cgroups: none" "containers can run here" "loginctl enable-linger dave"
}

test_what_is_not_enforced_is_told_once() {
    local said
    said=$(rootless run --name told -m 50m --cpus 0.5 --pids-limit 20 busybox echo ran 2>&1)
    echo "$said"
    contains "$said" ran "not enforced" --memory --cpus --pids-limit
    equal 1 "$(grep -c warning <<<"$said")"
    said=$(rootless inspect -f '{{.HostConfig.Memory}} {{json .Limits}}' told)
    echo "$said"
    contains "$said" 52428800 '"Name":"Memory","Requested":52428800,"Enforced":null'
    rootless rm told
    equal "" "$(rootless run --rm busybox true 2>&1)" "what a run without limits says"
}

test_strict_limits_refuse_it() {
    local status=0
    rootless run --name strict --strict-limits -m 50m busybox true || status=$?
    equal 125 "$status"
    equal "" "$(rootless ps -aq)"
}

test_what_stands_in_is_used() {
    local said
    said=$(rootless run --rm --cpuset-cpus 1 --ulimit nofile=77 busybox sh -c 'grep Cpus_allowed_list /proc/self/status; ulimit -n' 2>&1)
    equal $'Cpus_allowed_list:\t1\n77' "$said"
}

test_pause_says_why_not() {
    rootless run -d --name awake busybox sleep 1000
    local said
    said=$(refused rootless pause awake 2>&1)
    echo "$said"
    contains "$said" awake "control group"
    equal running "$(rootless inspect -f '{{.State.Status}}' awake)"
    rootless rm -f awake
}
