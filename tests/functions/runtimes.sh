#!/bin/sh
# Install the tests' Python function in target/functions/python: the handler, and AWS's runtime client from PyPI in
# the layout of a deployment package.
set -eu

cd "$(dirname "$0")"
python=${PYTHON:-python3}
into=../../target/functions/python
client=../../target/functions/awslambdaric

if ! cmp -s python/requirements.txt "$client/.pinned"; then
    echo "fetching AWS's runtime client for Python from PyPI into target/functions"
    rm -rf "$client"
    PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes \
        --only-binary=:all: --target "$client" --requirement python/requirements.txt
    cp python/requirements.txt "$client/.pinned"
fi

rm -rf "$into"
mkdir -p "$into"
cp -R "$client/." "$into"
cp -R python/bootstrap python/handler "$into"
