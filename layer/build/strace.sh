#!/bin/sh
# Checks that strace works, and installs it if possible: one test counts the system calls of an idle
# extension. Without strace this prints a warning and succeeds, and that test is skipped.
set -eu

without() {
    echo "$1: the test that counts system calls is skipped" >&2
    exit 0
}

if ! command -v strace >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        without "strace is missing (Debian and Ubuntu: sudo apt-get install strace)"
    fi
    echo "installing strace with apt-get"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends strace; } \
        </dev/null || without "strace cannot be installed"
fi

strace -qq -o /dev/null true || without "strace is installed but may not trace (kernel.yama.ptrace_scope)"
