#!/bin/sh
# Prepares target/bench/inference for `make bench-inference`:
# - models: the models with their requests and expected responses.
# - python: the tutorials' Python function with its packages.
# - fastapi, bentoml, mosec: the packages of Python's servers. The last two are optional, because not every machine can
#   install their dependencies.
#
# Parts that these scripts have already made are kept. PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/../../.."

here=tests/bench/inference
tutorial=tests/functions/tutorial
tools=tests/bench/coldstart/requirements.txt
out=target/bench/inference
. tests/bench/python.sh

mkdir -p "$out"
needed packages "$tutorial/requirements.txt"
needed tools "$tools"
needed fastapi "$here/fastapi.txt"
install mosec "$here/mosec.txt" || echo "$bench: mosec cannot be installed here and is omitted"
install bentoml "$here/bentoml.txt" || echo "$bench: BentoML cannot be installed here and is omitted"

lay_out_tutorial

stamp=$(cat "$here/models.py" "$here/prepare.sh" "$tools" "$tutorial/requirements.txt" tests/models/wine.json tests/models/wine-v1.onnx | sha256sum)
if [ "$(cat "$out/models.stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "$bench: generating the models"
    rm -rf "$out/models" "$out/models.new"
    mkdir "$out/models.new"
    PYTHONPATH="$out/packages:$out/tools" "$python" "$here/models.py" "$out/models.new"
    mv "$out/models.new" "$out/models"
    echo "$stamp" >"$out/models.stamp"
fi
