#!/bin/sh
# Install Schemathesis into target/schemathesis, from PyPI, for the test that holds the sidecar against its OpenAPI
# document.
set -eu

cd "$(dirname "$0")"
python=${PYTHON:-python3}
into=../../target/schemathesis

if ! cmp -s requirements.txt "$into/.pinned"; then
    echo "fetching Schemathesis from PyPI into target/schemathesis"
    rm -rf "$into"
    "$python" -m venv "$into"
    "$into/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes \
        --only-binary=:all: --requirement requirements.txt
    cp requirements.txt "$into/.pinned"
fi
