# shellcheck shell=bash
# What steps share: the ordinary user's world, and ways to say what was expected.
LANE_HOME=/home/$LANE_USER
export CHECKOUT=$LANE_HOME/checkout

as_user() { # a command as the lane's user, with what a login gives
    runuser -u "$LANE_USER" -- env -i HOME="$LANE_HOME" USER="$LANE_USER" LOGNAME="$LANE_USER" SHELL=/bin/bash \
        PATH="$LANE_HOME/.local/bin:/usr/local/bin:/usr/bin:/bin" LANG=C.UTF-8 TERM=dumb \
        XDG_RUNTIME_DIR="/run/user/$(id -u "$LANE_USER")" PIP_NO_INDEX=1 PIP_FIND_LINKS="$LANE/wheels" \
        sh -c 'cd && exec "$@"' sh "$@"
}

rootless() { as_user "$LANE_HOME/.local/bin/rootless" "$@"; }

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
