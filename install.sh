#!/bin/sh
# Install rootless for the user who runs this, from the checkout this file lies in.
#
# A private Python environment goes below the prefix, one command into the bin directory, man pages and
# completions where the shell looks for them.  sudo is never called.  Run by uid 0 it may install missing
# distribution packages and makes the service user that root's containers belong to.
set -eu

HERE=$(cd "$(dirname "$0")" && pwd)
ME=$(id -u)
PREFIX=
BINDIR=
PYTHON=
DOCTOR=yes
UNINSTALL=no
SERVICE_USER=rootless
MARK=.installed-by-rootless

say() { printf '%s\n' "install.sh: $*"; }
die() { printf '%s\n' "install.sh: $*" >&2; exit 1; }

usage() {
    cat <<USAGE
usage: ./install.sh [--prefix DIR] [--bin-dir DIR] [--python PATH] [--no-doctor]
       ./install.sh --uninstall [--prefix DIR] [--bin-dir DIR]

--prefix DIR    where the private environment goes (default ~/.local/lib/rootless; root: /usr/local/lib/rootless)
--bin-dir DIR   where the command goes (default ~/.local/bin; root: /usr/local/bin, and a link in ~/.local/bin)
--python PATH   the interpreter to use (3.9 or newer)
--no-doctor     do not end with 'rootless doctor'
--uninstall     take away what was installed; images and containers stay ('rm' them first, or see the README)
USAGE
}

while [ $# -gt 0 ]; do
    case $1 in
    --prefix) PREFIX=${2:?--prefix needs a directory}; shift ;;
    --prefix=*) PREFIX=${1#*=} ;;
    --bin-dir) BINDIR=${2:?--bin-dir needs a directory}; shift ;;
    --bin-dir=*) BINDIR=${1#*=} ;;
    --python) PYTHON=${2:?--python needs a path}; shift ;;
    --python=*) PYTHON=${1#*=} ;;
    --no-doctor) DOCTOR=no ;;
    --uninstall) UNINSTALL=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done

: "${HOME:=$(getent passwd "$ME" | cut -d: -f6)}"
LINK=
if [ "$ME" = 0 ]; then
    : "${PREFIX:=/usr/local/lib/rootless}"
    [ -n "$BINDIR" ] || { BINDIR=/usr/local/bin; LINK=$HOME/.local/bin/rootless; }
    SHARE=/usr/local/share
    BASH_DIR=$SHARE/bash-completion/completions
    ZSH_DIR=$SHARE/zsh/site-functions
    FISH_DIR=$SHARE/fish/vendor_completions.d
else
    : "${PREFIX:=$HOME/.local/lib/rootless}"
    : "${BINDIR:=$HOME/.local/bin}"
    SHARE=${XDG_DATA_HOME:-$HOME/.local/share}
    BASH_DIR=$SHARE/bash-completion/completions
    ZSH_DIR=$SHARE/zsh/site-functions
    FISH_DIR=${XDG_CONFIG_HOME:-$HOME/.config}/fish/completions
fi
case $PREFIX in /*) ;; *) PREFIX=$PWD/$PREFIX ;; esac
case $BINDIR in /*) ;; *) BINDIR=$PWD/$BINDIR ;; esac
MANIFEST=$PREFIX/manifest

uninstall() { # what was put there and nothing else: the prefix may hold other things
    [ -e "$PREFIX/$MARK" ] || die "cannot uninstall $PREFIX: install.sh did not put it there"
    # A unit or a line of crontab that starts containers after a boot would call what is no longer there.
    [ ! -x "$BINDIR/rootless" ] || "$BINDIR/rootless" system resume --uninstall >/dev/null 2>&1 || true
    if [ -e "$MANIFEST" ]; then
        while IFS= read -r file; do
            case $file in /*) rm -f -- "$file" ;; esac
        done <"$MANIFEST"
    fi
    rm -rf -- "$PREFIX"/v-[0-9]*-[0-9]*
    rm -f -- "$PREFIX/current" "$MANIFEST" "$PREFIX/.lock" "$PREFIX/$MARK"
    rmdir -- "$PREFIX" 2>/dev/null || true
    say "removed $PREFIX and what belonged to it; images and containers were left alone"
}

if [ "$UNINSTALL" = yes ]; then
    uninstall
    exit 0
fi

# Interpreters.

reachable() { # every user can execute it (root's service user has to)
    [ "$ME" = 0 ] || return 0
    path=$(readlink -f "$1") || return 1
    while [ "$path" != / ]; do
        case $(stat -c %A "$path") in *x | *t) ;; *) return 1 ;; esac
        path=$(dirname "$path")
    done
}

new_enough() {
    "$1" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null
}

find_python() {
    if [ -n "$PYTHON" ]; then
        new_enough "$PYTHON" || die "cannot use $PYTHON: it is not Python 3.9 or newer"
        reachable "$PYTHON" || die "cannot use $PYTHON: the service user could not execute it"
        return 0
    fi
    for name in python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
        candidate=$(command -v "$name" 2>/dev/null) || continue
        if new_enough "$candidate" && reachable "$candidate"; then
            PYTHON=$candidate
            return 0
        fi
    done
    return 1
}

has_venv() { "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null; }

# Distribution packages, by root only.

packages() { # name of the packages this machine lacks, for the package manager at hand
    missing=
    command -v newuidmap >/dev/null || missing="$missing $1"
    command -v fusermount3 >/dev/null || missing="$missing $2"
    command -v pasta >/dev/null || command -v slirp4netns >/dev/null || missing="$missing $3"
    command -v cc >/dev/null || missing="$missing $4"
    find_python && has_venv || missing="$missing $5"
    printf '%s' "$missing"
}

install_packages() {
    if command -v apt-get >/dev/null; then
        want=$(packages uidmap fuse3 passt "gcc make libc6-dev" "python3 python3-venv")
        [ -n "$want" ] || return 0
        say "installing$want"
        apt-get update -qq >/dev/null || true
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $want >/dev/null ||
            say "could not install all of$want; going on without"
    elif command -v dnf >/dev/null; then
        want=$(packages shadow-utils fuse3 passt "gcc make glibc-static" python3)
        # shellcheck disable=SC2086
        [ -z "$want" ] || dnf install -y -q $want || say "could not install all of$want; going on without"
    elif command -v zypper >/dev/null; then
        want=$(packages shadow fuse3 slirp4netns "gcc make glibc-devel-static" python3)
        # shellcheck disable=SC2086
        [ -z "$want" ] || zypper -nq install $want || say "could not install all of$want; going on without"
    elif command -v pacman >/dev/null; then
        want=$(packages shadow fuse3 slirp4netns "gcc make" python)
        # shellcheck disable=SC2086
        [ -z "$want" ] || pacman -S --noconfirm --needed $want || say "could not install all of$want; going on without"
    fi
}

next_range() { # first free block of 65536 subordinate IDs
    awk -F: 'BEGIN { top = 524288 } NF == 3 && $2 + $3 > top { top = $2 + $3 } END { print int((top + 65535) / 65536) * 65536 }' \
        /etc/subuid /etc/subgid 2>/dev/null || echo 524288
}

make_service_user() {
    if ! getent passwd "$SERVICE_USER" >/dev/null; then
        command -v useradd >/dev/null || { say "cannot make the service user: useradd is missing"; return 0; }
        useradd --system --user-group --home-dir /var/lib/rootless --no-create-home \
            --shell /usr/sbin/nologin "$SERVICE_USER"
        say "made the service user $SERVICE_USER: root's containers belong to it"
    fi
    for file in /etc/subuid /etc/subgid; do
        if ! grep -q "^$SERVICE_USER:" "$file" 2>/dev/null; then
            first=$(next_range)
            printf '%s:%s:65536\n' "$SERVICE_USER" "$first" >>"$file"
        fi
    done
}

load_apparmor() {
    restricted=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
    [ -e "$restricted" ] && [ "$(cat "$restricted")" != 0 ] || return 0
    command -v apparmor_parser >/dev/null || return 0
    sed "s|@LAUNCH@|$1|" "$HERE/conf/apparmor/rootless-launch" >/etc/apparmor.d/rootless-launch
    apparmor_parser -r /etc/apparmor.d/rootless-launch || say "could not load the AppArmor profile"
    printf '%s\n' /etc/apparmor.d/rootless-launch >>"$NEW_MANIFEST"
}

if [ "$ME" = 0 ]; then
    install_packages
    make_service_user
fi
find_python || die "cannot find Python 3.9 or newer that every user can execute; give one with --python"

# The private environment, built beside the old one and switched to by one rename.

VERSION_DIR=$PREFIX/v-$(date +%Y%m%d%H%M%S)-$$
NEW_MANIFEST=$VERSION_DIR/manifest
umask 022
mkdir -p "$PREFIX" "$BINDIR" || die "cannot install to $PREFIX and $BINDIR: give other directories with --prefix and --bin-dir"
if command -v flock >/dev/null; then
    exec 9>"$PREFIX/.lock"
    flock -n 9 || die "cannot install to $PREFIX: another install.sh is at work there"
fi
: >"$PREFIX/$MARK"
mkdir "$VERSION_DIR"
trap 'rm -rf -- "$VERSION_DIR"' EXIT
trap 'exit 1' HUP INT TERM

make_venv() { # leaves pip to be run from inside it, or from outside
    PIP_IS=inside
    if has_venv && "$PYTHON" -m venv "$VERSION_DIR/env" >/dev/null 2>&1; then
        return 0
    fi
    rm -rf "$VERSION_DIR/env"
    if "$PYTHON" -m venv --without-pip "$VERSION_DIR/env" >/dev/null 2>&1 &&
        "$PYTHON" -m pip --python "$VERSION_DIR/env/bin/python" --version >/dev/null 2>&1; then
        PIP_IS=outside
        return 0
    fi
    rm -rf "$VERSION_DIR/env"
    "$PYTHON" -m virtualenv -q "$VERSION_DIR/env" >/dev/null 2>&1 ||
        die "cannot make a virtual environment with $PYTHON: it has neither venv with pip nor virtualenv (Debian: package python3-venv)"
}

pip_install() { # quietly; what it says is kept for pip_reason
    if [ "$PIP_IS" = inside ]; then
        set -- "$VERSION_DIR/env/bin/python" -m pip install "$@"
    else
        set -- "$PYTHON" -m pip --python "$VERSION_DIR/env/bin/python" install "$@"
    fi
    "$@" -q --disable-pip-version-check --no-input >"$VERSION_DIR/pip.log" 2>&1
}

pip_reason() { # what in pip's log a person can use
    if grep -q 'cannot compile the helper programs' "$VERSION_DIR/pip.log"; then
        sed -n '/RuntimeError: cannot compile/,/\[end of output\]/p' "$VERSION_DIR/pip.log" |
            grep -v 'end of output' | sed 's/^ *RuntimeError: //; s/^      //' | head -n 12
    elif grep -qE 'Failed to establish|Temporary failure|Network is unreachable|Connection(Pool|Error| refused| reset)|timed out|ProxyError|from versions: none' "$VERSION_DIR/pip.log"; then
        printf 'the Python package index cannot be reached; with no network, give a mirror or a directory of wheels in PIP_INDEX_URL or PIP_FIND_LINKS'
    else
        grep -v '^ *$' "$VERSION_DIR/pip.log" | tail -n 3
    fi
}

static_works() { # CC [ARGS]: does it compile and link statically?
    printf 'int main(void) { return 0; }\n' >"$VERSION_DIR/try.c"
    "$@" -static -o "$VERSION_DIR/try" "$VERSION_DIR/try.c" >/dev/null 2>&1 && "$VERSION_DIR/try"
}

find_compiler() { # sets ROOTLESS_CC for hatch_build.py; the last resort is zig from the package index
    for name in "${CC:-}" cc gcc clang; do
        if [ -n "$name" ] && command -v "$name" >/dev/null && static_works "$name"; then
            export ROOTLESS_CC="$name"
            return 0
        fi
    done
    say "no C compiler that links statically: fetching ziglang as the compiler (about 100 MB, once)"
    "$PYTHON" -m venv "$VERSION_DIR/zig" >/dev/null 2>&1 || cp -a "$VERSION_DIR/env" "$VERSION_DIR/zig"
    if "$VERSION_DIR/zig/bin/python" -m pip install -q --disable-pip-version-check 'ziglang>=0.13' >"$VERSION_DIR/pip.log" 2>&1; then
        ROOTLESS_CC="$VERSION_DIR/zig/bin/python -m ziglang cc -target $(uname -m)-linux-musl"
        export ROOTLESS_CC
        return 0
    fi
    die "cannot build the helper programs: there is no C compiler, and ziglang cannot be fetched: $(pip_reason)"
}

say "using $("$PYTHON" --version 2>&1) at $PYTHON"
make_venv
find_compiler
say "building the helper programs with ${ROOTLESS_CC##*/}"
SOURCE=$VERSION_DIR/source
mkdir "$SOURCE"
for part in pyproject.toml README.md hatch_build.py rootless helpers conf man; do
    cp -R "$HERE/$part" "$SOURCE/" || die "cannot copy $HERE/$part"
done
rm -rf "$SOURCE/helpers/build" "$SOURCE/rootless/libexec"
pip_install "$SOURCE" || die "cannot install the package: $(pip_reason)"
pip_install 'isal>=1.6' || say "isal is not available here: unpacking images will be a little slower"
pip_install 'zstandard>=0.22' || say "zstandard is not available here: zstd-compressed layers cannot be unpacked"
if [ -e /usr/include/sys/capability.h ]; then
    pip_install 'python-prctl>=1.8' || say "python-prctl did not build: the built-in replacement is used"
else
    say "libcap's headers are not installed: python-prctl is left out, the built-in replacement is used"
fi

SITE=$("$VERSION_DIR/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
PACKAGE=$SITE/rootless
[ -x "$PACKAGE/libexec/launch" ] || die "cannot find the helper programs in $PACKAGE/libexec"
"$VERSION_DIR/env/bin/python" -m compileall -q "$SITE" >/dev/null 2>&1 || true

put() { # SOURCE DESTINATION: by rename, and noted
    mkdir -p "$(dirname "$2")" && cp "$1" "$2.new.$$" && mv "$2.new.$$" "$2" && printf '%s\n' "$2" >>"$NEW_MANIFEST"
}

: >"$NEW_MANIFEST"
if "$PYTHON" "$SOURCE/man/build.py" --out "$VERSION_DIR/man" >/dev/null 2>&1; then
    for page in "$VERSION_DIR"/man/man[1-9]/*; do
        [ ! -e "$page" ] || put "$page" "$SHARE/man/man${page##*.}/${page##*/}"
    done
else
    say "cannot make the manual pages: going on without them"
fi
put "$SOURCE/conf/completions/rootless.bash" "$BASH_DIR/rootless" || true
put "$SOURCE/conf/completions/_rootless" "$ZSH_DIR/_rootless" || true
put "$SOURCE/conf/completions/rootless.fish" "$FISH_DIR/rootless.fish" || true
[ "$ME" != 0 ] || load_apparmor "$PREFIX/v-*/env/lib/**/rootless/libexec/launch"

quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; } # for the shell

CURRENT=$PREFIX/current
INSIDE=$CURRENT${SITE#"$VERSION_DIR"}
cat >"$VERSION_DIR/rootless" <<SCRIPT
#!$CURRENT/env/bin/python -IS
import sys
sys.path.append($("$PYTHON" -c 'import sys; print(ascii(sys.argv[1]))' "$INSIDE"))
from rootless.__main__ import script
script()
SCRIPT
first=$(head -n 1 "$VERSION_DIR/rootless")
case $first in *" "*" "* | *"	"*) first=$(printf '%0200d' 0) ;; esac # the kernel splits at spaces
if [ ${#first} -gt 126 ]; then                                     # and cuts what is longer
    mv "$VERSION_DIR/rootless" "$VERSION_DIR/rootless.py"
    printf '#!/bin/sh\nexec %s -I -S %s "$@"\n' "$(quoted "$CURRENT/env/bin/python")" "$(quoted "$CURRENT/rootless.py")" \
        >"$VERSION_DIR/rootless"
fi
chmod 755 "$VERSION_DIR/rootless"
rm -rf "$SOURCE" "$VERSION_DIR/zig" "$VERSION_DIR/man" "$VERSION_DIR/try" "$VERSION_DIR/try.c" "$VERSION_DIR/pip.log"
printf '%s\n' "$BINDIR/rootless" >>"$NEW_MANIFEST"
[ -z "$LINK" ] || printf '%s\n' "$LINK" >>"$NEW_MANIFEST"

ln -s "${VERSION_DIR##*/}" "$PREFIX/current.new.$$"
trap - EXIT # from here on the new version stays
"$PYTHON" -c 'import os, sys; os.replace(sys.argv[1], sys.argv[2])' "$PREFIX/current.new.$$" "$CURRENT"
cp "$VERSION_DIR/rootless" "$BINDIR/.rootless.new.$$" && mv "$BINDIR/.rootless.new.$$" "$BINDIR/rootless"
if [ -n "$LINK" ]; then
    mkdir -p "${LINK%/*}" && ln -sf "$BINDIR/rootless" "$LINK"
fi
cp "$NEW_MANIFEST" "$MANIFEST.new.$$" && mv "$MANIFEST.new.$$" "$MANIFEST"
rm -f "$PREFIX"/current.new.* "$BINDIR"/.rootless.new.*
for old in "$PREFIX"/v-[0-9]*-[0-9]*; do # earlier versions, and what a kill left
    [ "$old" = "$VERSION_DIR" ] || rm -rf -- "$old"
done

say "installed $BINDIR/rootless"
case :$PATH: in
*:"$BINDIR":*) ;;
*) say "note: $BINDIR is not in PATH" ;;
esac
if [ "$DOCTOR" = yes ]; then
    "$BINDIR/rootless" doctor || say "rootless doctor says that containers cannot run here yet: see above"
fi
