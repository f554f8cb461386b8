#!/bin/sh
# Run the demo, and the lab, agreement and end-to-end tests, as an unprivileged user.
#
#     unprivileged.sh        as root, after `make test`; PROGRAMS selects test binaries, E2E end-to-end tests by name
#
# Uses the binaries that root has built. The user can read the repository and cannot write to it. Tests that need root
# report that they are skipped.
set -eu

cd "$(dirname "$0")/.."
PROGRAMS=${PROGRAMS:-agreement lab_tests e2e}
export PROGRAMS
[ "$(id -u)" = 0 ] || { echo "unprivileged.sh is for root; any other user runs make demo and make test" >&2; exit 1; }

# The user needs access to the parents of the repository: a private mount namespace replaces an inaccessible one.
if [ "${1:-}" != --namespace ] && ! setpriv --reuid=65534 --regid=65534 --clear-groups test -r "$PWD/Makefile"; then
    exec unshare --mount --propagation private sh "$PWD/tests/unprivileged.sh" --namespace
fi
if [ "${1:-}" = --namespace ]; then
    here=$PWD outside=$(mktemp -d)
    closed=$here
    parent=$(dirname "$here")
    while [ "$parent" != / ]; do
        case $(stat -c %A "$parent") in *[xt]) ;; *) closed=$parent ;; esac
        parent=$(dirname "$parent")
    done
    mount --bind "$here" "$outside"
    mount -t tmpfs -o mode=0755 none "$closed"
    mkdir -p "$here"
    mount --move "$outside" "$here"
    rmdir "$outside"
    cd "$here"
fi

home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
chown 65534:65534 "$home"

unprivileged() { # unprivileged COMMAND ARGUMENT...
    setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$home" TMPDIR="$home" USER=nobody "$@"
}

programs=$(cargo test --workspace --no-run --message-format=json | python3 -c '
import json, os, sys
wanted = os.environ["PROGRAMS"].split()
for line in sys.stdin:
    message = json.loads(line)
    name = message.get("target", {}).get("name")
    if message.get("executable") and message["profile"]["test"] and name in wanted:
        print(message["executable"])
')
[ -n "$programs" ]

echo "as a user without root rights: the demo"
unprivileged target/debug/demo >"$home/demo.log" 2>&1 || { cat "$home/demo.log"; exit 1; }
# Skip tests whose Python environment uses an interpreter that only root can execute.
skip=
for each in clients openapi:schemathesis; do
    if ! unprivileged test -x "target/${each#*:}/bin/python"; then
        echo "skipped without root: end-to-end tests of ${each%:*}: this user cannot execute their Python"
        skip="$skip --skip ${each%:*}::"
    fi
done
cd tests
for program in $programs; do
    echo "as a user without root rights: $(basename "$program")"
    case $(basename "$program") in e2e-*) only=${E2E:-} ;; *) only= ;; esac
    # shellcheck disable=SC2086 # words
    unprivileged "$program" $only $skip
done
