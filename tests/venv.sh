#!/bin/sh
# venv.sh NAME REQUIREMENTS: an environment for Python in target/NAME with packages from PyPI that are pinned by hash.
# The file names their dependencies as well.
#
# Does nothing where it holds just these. PYTHON names the interpreter.
set -eu

requirements=$2
into=$(dirname "$0")/../target/$1

if ! cmp -s "$requirements" "$into/.pinned"; then
    echo "fetching $requirements from PyPI into target/$1"
    rm -rf "$into"
    "${PYTHON:-python3}" -m venv "$into"
    "$into/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps \
        --only-binary=:all: --requirement "$requirements"
    cp "$requirements" "$into/.pinned"
fi
