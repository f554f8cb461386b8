#!/bin/sh
# Lay out Triton's own client for Python in target/clients, an environment of its own for the end-to-end tests.
set -eu

cd "$(dirname "$0")"
python=${PYTHON:-python3}
into=../../../target/clients

if ! cmp -s requirements.txt "$into/.pinned"; then
    echo "fetching Triton's client for Python from PyPI into target/clients"
    rm -rf "$into"
    "$python" -m venv "$into"
    "$into/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes \
        --only-binary=:all: --requirement requirements.txt
    cp requirements.txt "$into/.pinned"
fi
