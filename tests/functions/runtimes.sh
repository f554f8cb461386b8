#!/bin/sh
# Install the tests' Python functions in target/functions: handlers, and AWS's runtime client from PyPI in the layout of
# a deployment package. `python` is for the tests of `lab serve`, `example` has the examples.
set -eu

cd "$(dirname "$0")"
python=${PYTHON:-python3}
into=../../target/functions
client=../../target/functions/awslambdaric

if ! cmp -s python/requirements.txt "$client/.pinned"; then
    echo "fetching AWS's runtime client for Python from PyPI into target/functions"
    rm -rf "$client"
    PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes \
        --only-binary=:all: --target "$client" --requirement python/requirements.txt
    cp python/requirements.txt "$client/.pinned"
fi

rm -rf "$into/python" "$into/example"
mkdir -p "$into/python" "$into/example"
cp -R "$client/." "$into/python"
cp -R python/bootstrap python/handler "$into/python"
cp -R "$client/." "$into/example"
cp ../../layer/examples/python/*.py "$into/example"
mkdir "$into/example/sample"
cp ../models/wine-v1.onnx "$into/example/sample/wine.onnx"
printf '#!/bin/sh\nexec python3 -m awslambdaric "$_HANDLER"\n' >"$into/example/bootstrap"
chmod +x "$into/example/bootstrap"
