# shellcheck shell=bash
# What steps share: the ordinary user's world, and ways to say what was expected.
LANE_HOME=/home/$LANE_USER
export CHECKOUT=$LANE_HOME/checkout

as_user() { # a command as the lane's user, with what a login gives; nobody else's process comes between
    (
        [ -z "${LANE_UNIT:-}" ] || join_unit "$LANE_UNIT"
        exec setpriv --reuid="$LANE_USER" --regid="$LANE_USER" --init-groups env -i HOME="$LANE_HOME" USER="$LANE_USER" \
            LOGNAME="$LANE_USER" SHELL=/bin/bash PATH="$LANE_HOME/.local/bin:/usr/local/bin:/usr/bin:/bin" LANG=C.UTF-8 TERM=dumb \
            XDG_RUNTIME_DIR="/run/user/$(id -u "$LANE_USER")" PIP_NO_INDEX=1 PIP_FIND_LINKS="$LANE/wheels" \
            sh -c 'cd && exec "$@"' sh "$@"
    )
}

rootless() { as_user rootless "$@"; }

fail() { echo "$*"; return 1; }

equal() { # WANTED FOUND [WHAT]
    [ "$1" = "$2" ] || fail "${3:-value}: wanted '$1', found '$2'"
}

contains() { # TEXT PART...: every part is somewhere in the text
    local text=$1 part
    shift
    for part in "$@"; do
        case $text in
        *"$part"*) ;;
        *) fail "not found: '$part' in:"$'\n'"$text" || return ;;
        esac
    done
}

lacks() { # TEXT PART
    case $1 in
    *"$2"*) fail "found: '$2' in:"$'\n'"$1" ;;
    esac
}

refused() { # COMMAND...: it fails; what it says is shown
    if "$@"; then fail "succeeded: $*"; fi
}

login() { # USER COMMAND: at a terminal, in a session of logind; logs out at the end
    SHELL=/bin/bash script -qec "su - $1 -c $(printf %q "$2")" /dev/null </dev/null | tr -d '\r'
}

wait_until() { # SECONDS COMMAND...: the command succeeds before they are over; what it says is shown at the end
    local seconds=$1 until=$((SECONDS + $1)) said
    shift
    until said=$("$@" 2>&1); do
        [ "$SECONDS" -lt "$until" ] || fail "not within $seconds s: $*"$'\n'"$said" || return
        sleep 0.2
    done
}

gone() { # USER: nothing of the user's sessions is left, and no manager
    wait_until 60 test ! -e "/run/user/$(id -u "$1")"
}

of() { # DRIVER: become the user whose containers it makes; carol's are in a job of hers
    case $1 in
    systemd) become alice ;;
    cgroupfs)
        systemctl -q is-active job || systemd-run -q --unit=job -p User=carol -p Delegate=yes sleep infinity
        become carol job
        ;;
    none) become dave ;;
    esac
}

become() { # USER [UNIT]: further commands are this user's, and start in that unit's control group
    LANE_USER=$1 LANE_HOME=/home/$1 LANE_UNIT=${2:-}
}

join_unit() { # this process goes to where the first of the unit is
    local first
    first=$(systemctl show -P MainPID "$1")
    echo "$BASHPID" >"/sys/fs/cgroup$(sed 's/^0:://' "/proc/$first/cgroup")/cgroup.procs"
}

scopes() { # where the containers' own groups are whose units the manager of the lane's user made
    find "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice" -maxdepth 1 \
        -regextype posix-extended -regex '.*/rootless-[0-9a-f]{64}[.]scope'
}
