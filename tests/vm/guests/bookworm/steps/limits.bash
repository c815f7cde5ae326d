# shellcheck shell=bash disable=SC2016,SC2088  # inner shells expand what they are given
# Limits by a driver: the kernel enforces what was asked for, and everybody is told so.

group() { echo "/sys/fs/cgroup$(sed 's/^0:://' "/proc/$(rootless inspect -f '{{.State.Pid}}' "$1")/cgroup")"; } # CONTAINER

usage() { sed -n 's/^usage_usec //p' "$1/cpu.stat"; } # GROUP

used() { # GROUP SECONDS: thousandths of a CPU in that time
    local from=$EPOCHREALTIME before after
    before=$(usage "$1")
    sleep "$2"
    after=$(usage "$1")
    echo $(((after - before) * 1000 / (${EPOCHREALTIME/./} - ${from/./})))
}

between() { # LEAST FOUND MOST WHAT
    if [ "$2" -lt "$1" ] || [ "$2" -gt "$3" ]; then fail "$4: wanted $1 to $3, found $2"; fi
}

test_there_are_images_and_the_driver_is_chosen_by_itself() {
    of "$1"
    if [ "$1" != systemd ]; then
        rootless load -q -i "$LANE/images/busybox"
    fi
    equal "$1" "$(rootless info -f '{{.CgroupDriver}}')" driver
    equal 2 "$(rootless info -f '{{.CgroupVersion}}')" version
    contains "$(rootless doctor)" "cgroups: $1" "containers can run here"
}

test_the_group_is_where_it_should_be() {
    of "$1"
    rootless run -d --name where busybox sleep 1000
    local outside
    outside=$(group where)
    echo "$outside"
    case $1 in
    systemd) contains "$outside" /user.slice/user-1000.slice/user@1000.service/app.slice/rootless- .scope/container ;;
    cgroupfs) contains "$outside" /system.slice/job.service/rootless- ;;
    esac
    equal 0::/ "$(rootless exec where cat /proc/self/cgroup)" inside
    rootless exec where cat /sys/fs/cgroup/cgroup.controllers
    equal "" "$(rootless exec where ls -d /sys/fs/cgroup/rootless-* 2>/dev/null)" siblings
    [ "$(wc -l <"$outside/cgroup.procs")" = 1 ] || fail "others are in it: $(cat "$outside/cgroup.procs")"
    rootless rm -f where
    wait_until 10 test ! -e "$outside"
}

test_memory_limit_kills_and_is_reported() {
    of "$1"
    local status=0 since
    since=$(date +%s)
    rootless run --name oom -m 32m busybox sh -c 'exec tail /dev/zero' || status=$?
    equal 137 "$status" "exit status"
    equal "true 137 exited" "$(rootless inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.Status}}' oom)"
    equal 33554432 "$(rootless inspect -f '{{.HostConfig.Memory}}' oom)" requested
    local limits
    limits=$(rootless inspect -f '{{json .Limits}}' oom)
    echo "$limits"
    contains "$limits" '"Name":"Memory"' memory.max
    local said
    said=$(rootless events --since "$since" --until "$(($(date +%s) + 1))" --filter container=oom --format '{{.Action}} {{index .Actor.Attributes "exitCode"}}')
    echo "$said"
    contains "$said" "oom" "die 137"
    rootless rm oom
    # A child's death alone is no end of the container.
    contains "$(rootless run --rm -m 32m busybox sh -c 'tail /dev/zero; echo child $?')" "child 137"
}

test_cpu_limit_holds() {
    of "$1"
    rootless run -d --name burn --cpus 0.5 busybox sh -c 'while :; do :; done & while :; do :; done'
    local outside found
    outside=$(group burn)
    equal "50000 100000" "$(cat "$outside/cpu.max")"
    found=$(used "$outside" 4)
    echo "$found"
    between 425 "$found" 575 "CPU per mille"
}

test_update_takes_effect() {
    of "$1"
    local outside found
    outside=$(group burn)
    rootless update --cpus 0.2 --memory 100m --memory-swap 100m --pids-limit 30 burn
    equal "20000 100000|104857600|30" "$(cat "$outside/cpu.max")|$(cat "$outside/memory.max")|$(cat "$outside/pids.max")"
    found=$(used "$outside" 4)
    echo "$found"
    between 170 "$found" 230 "CPU per mille"
    equal "200000000 104857600 30" "$(rootless inspect -f '{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}' burn)"
}

test_pause_freezes() {
    of "$1"
    local outside
    outside=$(group burn)
    rootless pause burn
    equal "true paused" "$(rootless inspect -f '{{.State.Paused}} {{.State.Status}}' burn)"
    contains "$(rootless ps)" "(Paused)"
    equal 0 "$(used "$outside" 1)" "CPU of a paused container"
    refused rootless exec burn true
    rootless unpause burn
    between 1 "$(used "$outside" 2)" 1000 "CPU after it"
    rootless pause burn
    rootless rm -f burn # thawed first
    wait_until 10 test ! -e "$outside"
}

test_pids_limit_holds() {
    of "$1"
    local said status=0
    said=$(rootless run --rm --pids-limit 10 busybox sh -c \
        'cat /sys/fs/cgroup/pids.max; i=0; while [ $i -lt 20 ]; do sleep 3 & i=$((i + 1)); done' 2>&1) || status=$?
    echo "$said"
    contains "$said" 10 "can't fork"
    [ "$status" != 0 ] || fail "twenty processes were started"
}

test_stats_are_what_the_group_says() {
    of "$1"
    rootless run -d --name steady -m 100m --cpus 0.5 busybox sh -c 'head -c 41943040 /dev/zero >/dev/shm/fill; while :; do :; done'
    local outside found said usage current inactive
    outside=$(group steady)
    wait_until 20 sh -c "[ \$(cat $outside/memory.current) -gt 41943040 ]"
    said=$(rootless stats --no-stream --format '{{.CPUPerc}} {{.PIDs}} {{.MemUsage}}' steady)
    found=$(used "$outside" 2)
    current=$(cat "$outside/memory.current") inactive=$(sed -n 's/^inactive_file //p' "$outside/memory.stat")
    echo "$said; by the files: $found, $current - $inactive"
    read -r percent pids usage _ <<<"$said"
    equal 1 "$pids"
    awk -v said="${percent%\%}" -v found="$found" 'BEGIN { d = said - found / 10; exit !(d > -5 && d < 5) }' || fail "CPU"
    contains "$usage" MiB
    awk -v said="${usage%MiB}" -v found="$((current - inactive))" \
        'BEGIN { d = said * 1048576 / found; exit !(d > 0.95 && d < 1.05) }' || fail memory
    contains "$said" "/ 100MiB"
    rootless rm -f steady
}

test_cpus_are_those_asked_for() {
    of "$1"
    local said
    said=$(rootless run --rm --cpuset-cpus 1 busybox sh -c 'grep Cpus_allowed_list /proc/self/status; cat /sys/fs/cgroup/cpuset.cpus.effective')
    echo "$said"
    equal $'Cpus_allowed_list:\t1\n1' "$said"
}

test_io_limit_is_set_and_holds() {
    of "$1"
    as_user mkdir -p data
    local said from took
    from=$EPOCHREALTIME
    said=$(rootless run --rm --device-write-bps /dev/vda:1mb --device-read-iops /dev/vda:500 -v "$LANE_HOME/data:/data" busybox sh -c '
        cat /sys/fs/cgroup/io.max; dd if=/dev/zero of=/data/file bs=64k count=48 oflag=direct 2>&1; cat /sys/fs/cgroup/io.stat')
    took=$(((${EPOCHREALTIME/./} - ${from/./}) / 1000))
    echo "$said; $took ms"
    contains "$said" "$(stat -c %Hr:%Lr /dev/vda) rbps=max wbps=1048576 riops=500 wiops=max"
    between 2000 "$took" 60000 "ms for 3 MB"
}

test_weights_are_converted() {
    of "$1"
    equal $'100\n50331648\n67108864' "$(rootless run --rm --cpu-shares 1024 --memory-reservation 48m -m 64m busybox sh -c \
        'cd /sys/fs/cgroup; cat cpu.weight memory.low memory.max')"
}

test_nothing_is_left() {
    of "$1"
    equal "" "$(rootless ps -aq)"
    local left
    left=$(find /sys/fs/cgroup -name "rootless-*" ! -name rootless-inner -user "$LANE_USER" \
        ! -name "rootless-realm-*" ! -name "rootless-network-*") # these are not a container's
    equal "" "$left"
}
