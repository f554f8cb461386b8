#!/bin/sh
# Leaves in target/fixtures/magika the network that the PyPI package magika carries (model.onnx),
# and what Python's ONNX Runtime says about real files with it (cases.json).
#
# Run by `make fixtures`. Does nothing when what is there was made by these same scripts. PYTHON
# names the interpreter, where the first suitable one on the path is not the one to use.
set -eu
cd "$(dirname "$0")/../.."

here=tests/models
out=target/fixtures/magika
venv=target/venv-models

inputs="$here/fixtures.sh $here/magika_cases.py $here/magika-requirements.txt"
# shellcheck disable=SC2086  # a list of names without spaces
stamp=$(cat $inputs | sha256sum)
if [ -f "$out/model.onnx" ] && [ -f "$out/cases.json" ] &&
    [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi

fail() {
    echo "fixtures: $*" >&2
    exit 1
}

# onnxruntime 1.28.0 has wheels for these versions of CPython alone.
suitable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

if [ -n "${PYTHON:-}" ]; then
    suitable "$PYTHON" ||
        fail "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1 || true); onnxruntime 1.28.0 has wheels for Python 3.11 to 3.14"
    python=$PYTHON
else
    python=
    for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
        if suitable "$candidate"; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] ||
        fail "no Python 3.11 to 3.14 on the path (python3 is $(python3 --version 2>&1 || true)); onnxruntime 1.28.0 has no wheel for others"
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments; on Debian and Ubuntu install python3-venv"

echo "fixtures: installing magika and onnxruntime with $("$python" --version)"
mkdir -p target/fixtures
"$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --only-binary=:all: -r "$here/magika-requirements.txt" ||
    fail "pip could not install $here/magika-requirements.txt for $("$python" --version) on $(uname -m)"

echo "fixtures: running the network on real files"
work=$(mktemp -d target/fixtures/magika.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
"$venv/bin/python" "$here/magika_cases.py" "$work"
echo "$stamp" >"$work/stamp"
chmod 755 "$work"
rm -rf "$out"
mv "$work" "$out"
echo "fixtures: $out is ready"
