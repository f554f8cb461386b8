#!/bin/sh
# Checks that bubblewrap works, and installs it if possible: the tests and the demo use it for sandboxes.
set -eu

if ! command -v bwrap >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "bubblewrap is missing: install it (Debian and Ubuntu: sudo apt-get install bubblewrap) and try again" >&2
        exit 1
    fi
    echo "installing bubblewrap with apt-get"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bubblewrap </dev/null
fi

if ! bwrap --unshare-pid --unshare-net --ro-bind / / --proc /proc --dev /dev true; then
    echo "bubblewrap is installed but may not create namespaces: allow unprivileged user namespaces" >&2
    echo "(Ubuntu 24.04 and newer: sysctl kernel.apparmor_restrict_unprivileged_userns=0), or run as root" >&2
    exit 1
fi
