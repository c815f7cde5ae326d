# shellcheck shell=bash disable=SC2016,SC2088  # inner shells expand what they are given
# What becomes of a container at logout is what run -d has said.
#
#                                    killed at logout        outlives it
#   scope of the user's manager      without linger          with linger
#   in the session, no group         KillUserProcesses=yes   KillUserProcesses=no

as_set() { # KillUserProcesses LINGER DRIVER: with nothing of bob's left from before
    loginctl disable-linger bob
    pkill -KILL -u bob || true
    gone bob
    rm -rf ~bob/.local/share/rootless/containers ~bob/.local/share/rootless/names # of a case that failed
    printf '[Login]\nKillUserProcesses=%s\nUserStopDelaySec=1\n' "$1" >/etc/systemd/logind.conf.d/lane.conf
    systemctl kill --signal HUP systemd-logind
    [ "$2" = no ] || loginctl enable-linger bob
    as_bob "mkdir -p ~/.config/rootless; printf '[cgroup]\ndriver = \"%s\"\n' $3 >~/.config/rootless/rootless.toml"
}

as_bob() { runuser -u bob -- env -i HOME=/home/bob sh -c "$1"; } # in no session

logged_out() { # WHAT-RUN-SAYS dies|lives
    local said pid
    said=$(login bob "rootless run -d --name stays busybox sleep 1000; rootless inspect -f 'pid {{.State.Pid}}' stays")
    echo "$said"
    pid=$(sed -n 's/^pid //p' <<<"$said")
    [ "$pid" -gt 1 ] || fail "it does not run"
    case $1 in
    dies)
        contains "$said" "this container ends when you log out"
        wait_until 30 test ! -e "/proc/$pid/ns"
        ;;
    lives)
        lacks "$said" "log out"
        sleep 4 # longer than UserStopDelaySec
        test -e "/proc/$pid/ns" || fail "it was said to live"
        ;;
    esac
    said=$(login bob 'rootless ps -a --format "{{.Names}}: {{.State}}"; rootless run --rm busybox echo another runs; rootless rm -f stays')
    echo "$said"
    case $1 in
    dies) contains "$said" "stays: exited" "another runs" ;;
    lives) contains "$said" "stays: running" "another runs" ;;
    esac
}

test_bob_has_an_image() {
    login bob "rootless load -q -i $LANE/images/busybox"
}

test_no_linger_ends_a_scope() {
    as_set no no systemd
    logged_out dies
}

test_no_linger_and_killing_ends_a_scope() {
    as_set yes no systemd
    logged_out dies
}

test_linger_keeps_a_scope_where_sessions_are_killed() {
    as_set yes yes systemd
    logged_out lives
}

test_a_session_that_is_not_killed_keeps_what_has_no_group() {
    as_set no no none
    logged_out lives
}

test_killing_ends_what_has_no_group() {
    as_set yes yes none
    logged_out dies
}

test_a_lingering_user_s_network_outlives_the_logout_too() {
    as_set yes yes systemd
    local said
    said=$(login bob "rootless run -d --name web -p 8080:80 busybox sh -c 'mkdir /w; echo served >/w/index.html; exec httpd -f -p 80 -h /w'")
    echo "$said"
    sleep 3
    equal served "$(python3 -c 'import urllib.request; print(urllib.request.urlopen("http://127.0.0.1:8080/", timeout=20).read().decode().strip())')"
    login bob 'rootless rm -f web'
}

test_controllers_that_are_not_delegated_are_told() { # a plain Debian 12 delegates cpu, memory and pids
    as_set no yes systemd
    local said
    said=$(login bob 'rootless run --rm --device-write-bps /dev/vda:1mb -m 50m busybox cat /sys/fs/cgroup/memory.max; echo status $?
        rootless create --name strict --strict-limits --device-write-bps /dev/vda:1mb busybox true; echo status $?
        rootless create --name listed --device-write-bps /dev/vda:1mb --cpuset-cpus 1 -m 50m busybox true
        rootless run --rm --cpuset-cpus 1 busybox grep Cpus_allowed_list /proc/self/status
        rootless inspect -f "{{json .Limits}}" listed; rootless rm listed; rootless ps -a; rootless doctor')
    echo "$said"
    contains "$said" 52428800 "status 0" "status 125" BlkioDeviceWriteBps affinity "Delegate=" $'Cpus_allowed_list:\t1'
    lacks "$(sed -n '/status 125/,$p' <<<"$said")" strict
}
