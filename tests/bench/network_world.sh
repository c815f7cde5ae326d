#!/bin/sh
# Start a command as USER in a host of its own: a network namespace with one wire to another one, the outside.
#
#     network_world.sh USER COMMAND...       (as root)
#
# The outside belongs to a user namespace of USER, who can start programs there without root; BENCH_OUTSIDE tells
# the command the process that keeps it.  /sys/fs/cgroup is cgroup2 alone, for podman's sake.
set -eu
if [ "${1:-}" != --inside ]; then
    exec unshare -m -n "$0" --inside "$@"
fi
user=$2
shift 2
as_user() {
    exec setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"
}

mount --make-rprivate / && mount --make-rshared /
umount -l /sys/fs/cgroup
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/bench
chown -R "$user:" /sys/fs/cgroup/bench
echo $$ >/sys/fs/cgroup/bench/cgroup.procs

as_user unshare -r -n sleep infinity &
outside=$!
trap 'kill $outside' EXIT
until [ "$(readlink "/proc/$outside/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do
    sleep 0.05
done

ip link set lo up
ip link add out0 mtu 1500 type veth peer name out1 mtu 1500 netns "$outside"
ip address add 10.9.0.1/24 dev out0
ip link set out0 up
ip route add default via 10.9.0.2
nsenter -t "$outside" -n sh -c 'ip link set lo up && ip address add 10.9.0.2/24 dev out1 && ip link set out1 up'
(as_user env BENCH_OUTSIDE="$outside" "$@")
