#!/bin/sh
# Compile the helper programs without make: build.sh LIBEXEC, with $ROOTLESS_CC or cc.
set -eu
cd "$(dirname "$0")"
out=$1
cc=${ROOTLESS_CC:-cc}
flags="-std=gnu11 -Os -Wall -static -Wl,--gc-sections -ffunction-sections -fdata-sections"
mkdir -p "$out"
# shellcheck disable=SC2086
{
    $cc $flags -s -o "$out/launch" launch*.c
    $cc $flags -s -o "$out/monitor" monitor*.c log*.c
    $cc $flags -s -o "$out/realm" realm.c
    $cc $flags -s -o "$out/init" init.c
    $cc $flags -s -o "$out/netguard" netguard.c
    $cc -std=gnu11 -Os -static -s -nostdlib -ffreestanding -fno-stack-protector -fno-builtin \
        -fno-asynchronous-unwind-tables -o "$out/hello" hello.c
}
