# shellcheck shell=bash disable=SC2016,SC2088  # inner shells expand what they are given
# One rung of the storage ladder: it is chosen by itself, and the images that ran on the others run on it.

BOX=box

test_the_rung_above_is_gone() { # the admin's line for it is in doctor's words
    case $1 in
    fuse-overlayfs) ;;
    fusepy) rm /usr/bin/fuse-overlayfs ;;
    copy)
        rm -f /usr/bin/fuse-overlayfs
        rm /dev/fuse
        ;;
    *) fail "unknown rung $1" ;;
    esac
}

test_doctor_names_what_is_missing() {
    local said
    said=$(rootless doctor)
    echo "$said"
    contains "$said" "storage: $1" "-> $1 " "Linux 5.11 or newer can do it; this is 5.10." "containers can run here"
    case $1 in
    fusepy) contains "$said" "install the package fuse-overlayfs" ;;
    copy) contains "$said" "modprobe fuse && chmod 0666 /dev/fuse" ;;
    esac
}

test_info_and_inspect_name_the_driver() {
    equal "$1" "$(rootless info --format '{{.Driver}}')" info
    rootless create --name which busybox true
    equal "$1" "$(rootless inspect --format '{{.GraphDriver.Name}}' which)" inspect
    rootless rm which
}

test_debian_runs() {
    contains "$(rootless run --rm debian:11 sh -c 'cat /etc/os-release; python3 --version')" bullseye "Python 3.9"
}

test_writes_and_deletions() {
    rootless run --name $BOX busybox sh -euc '
        echo new > /etc/new; chmod 640 /etc/new
        rm /etc/group; ! test -e /etc/group
        rm -r /home; mkdir /home; test -z "$(ls -A /home)"
        ln /etc/new /etc/hard; ln -s new /etc/soft; mkfifo /tmp/pipe
        mv /etc/passwd /etc/passwd2; cp /etc/passwd2 /etc/passwd
        echo more >> /etc/passwd2; test "$(wc -l < /etc/passwd2)" = 4
        test "$(stat -c %h /etc/new)" = 2
        mkdir -p /d/e/f; mv /d/e /e; test -d /e/f; rm -r /d'
    local changes
    changes=$(rootless diff $BOX)
    echo "$changes"
    contains "$changes" "D /etc/group" "C /home" "A /etc/new" "A /etc/hard" "A /e/f" "A /tmp/pipe"
    lacks "$changes" "/d/e"
}

test_owners_are_kept() {
    local owner
    owner=$(rootless run --rm busybox sh -c 'touch /f; chown 5:6 /f; stat -c %u:%g /f; stat -c %u /home/app; id -u')
    equal $'5:6\n1000\n0' "$owner"
    equal "app 1000" "$(rootless run --rm -u app busybox sh -c 'echo $(id -un) $(stat -c %u /home/app)')"
}

test_a_restart_sees_what_was_written() {
    rootless run -d --name again busybox sh -c 'echo line >> /log; sleep 1000'
    rootless restart -t 0 again
    sleep 1
    equal $'line\nline' "$(rootless exec again cat /log)"
    rootless rm -f again
}

test_a_commit_deletes_in_its_layer() {
    rootless commit $BOX "changed:$1"
    rootless rm $BOX
    rootless run --rm "changed:$1" sh -euc '
        ! test -e /etc/group; ! test -e /home/app; test -d /home
        test "$(cat /etc/soft)" = new; test "$(stat -c %a /etc/hard)" = 640; test -p /tmp/pipe
        rm -r /home; ! test -e /home; mkdir /home; test -z "$(ls -A /home)"'
}

test_a_directory_made_again_shows_nothing_old() { # over two layers of an image, whatever the driver calls a mark
    rootless run --name first busybox sh -euc 'mkdir /dir; echo old > /dir/old'
    rootless commit first "first:$1"
    rootless run --name second "first:$1" sh -euc 'rm -r /dir; mkdir /dir; echo new > /dir/new'
    rootless commit second "second:$1"
    rootless rm first second
    equal new "$(rootless run --rm "second:$1" ls /dir)"
}

test_files_in_and_out() {
    as_user sh -c 'rm -rf in out && mkdir in && echo text > in/file'
    rootless create --name files busybox true
    rootless cp in files:/srv
    rootless cp files:/srv out
    equal text "$(as_user cat out/file)"
    rootless rm files
}

test_a_package_is_installed_in_debian() {
    local said
    said=$(rootless run --rm --network none debian:11 sh -euc '
        apt-get install -qq -y --no-install-recommends /srv/debs/*.deb >/dev/null && hello && stat -c "%U:%G %a" /usr/bin/crontab /var/spool/cron/crontabs
        dpkg -P hello >/dev/null; ! test -e /usr/bin/hello' 2>&1)
    echo "$said"
    contains "$said" "Hello, world!" "root:crontab 2755" "root:crontab 1730"
}

test_many_at_once() {
    as_user sh -euc 'for i in 1 2 3 4; do ~/.local/bin/rootless run --rm busybox sh -c "echo $i > /f; cat /f" & done; wait' \
        | sort | tr -d '\n' | { read -r said || true; equal 1234 "$said"; }
}

test_nothing_is_left_mounted_or_running() {
    equal "" "$(rootless ps -aq)"
    lacks "$(cat /proc/self/mountinfo)" fuse-overlayfs
    sleep 1
    lacks "$(ps -u "$LANE_USER" -o args)" "fuse-overlayfs"
    lacks "$(ps -u "$LANE_USER" -o args)" "unionfs/server"
}
