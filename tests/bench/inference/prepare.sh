#!/bin/sh
# Leaves in target/bench/inference what `make bench-inference` measures with: the models with what they are asked and
# must answer (models), the tutorials' Python function with its packages (python), and the packages of Python's servers
# (fastapi, bentoml). BentoML may be missing: it has more dependencies than every machine can have.
#
# Does nothing for a part that was made by these same scripts. PYTHON names the interpreter.
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
install bentoml "$here/bentoml.txt" || echo "$bench: BentoML cannot be installed here, and is left out"

lay_out_tutorial

stamp=$(cat "$here/models.py" "$here/prepare.sh" "$tools" "$tutorial/requirements.txt" tests/models/wine.json tests/models/wine-v1.onnx | sha256sum)
if [ "$(cat "$out/models.stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "$bench: making the models"
    rm -rf "$out/models" "$out/models.new"
    mkdir "$out/models.new"
    PYTHONPATH="$out/packages:$out/tools" "$python" "$here/models.py" "$out/models.new"
    mv "$out/models.new" "$out/models"
    echo "$stamp" >"$out/models.stamp"
fi
