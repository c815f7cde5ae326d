# shellcheck shell=bash disable=SC2016,SC2088  # inner shells expand what they are given
# Containers of every restart policy, before the machine is started again; resume.bash looks at what became of them.

test_containers_of_every_policy() {
    of "$1"
    if [ "$1" = systemd ]; then # the others have no systemd, and their first command does it
        rootless system resume --install
    fi
    local policy
    for policy in no always unless-stopped on-failure; do
        rootless run -d --name "$policy" --restart "$policy" -v "kept:/kept" busybox sh -c 'echo $HOSTNAME >>/kept/starts; exec sleep 10000' >/dev/null
    done
    for policy in always unless-stopped; do
        rootless run -d --name "stopped-$policy" --restart "$policy" busybox sleep 10000 >/dev/null
        rootless stop -t 0 "stopped-$policy"
    done
    rootless run -d --rm --name removed busybox sleep 10000
    rootless ps -a
}
