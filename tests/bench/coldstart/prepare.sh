#!/bin/sh
# Prepares target/bench/coldstart for `make bench-coldstart`: the tutorials' Python function with its
# packages (python), and the models with their expected responses (models).
#
# Parts that these scripts have already made are kept. PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/../../.."

here=tests/bench/coldstart
tutorial=tests/functions/tutorial
out=target/bench/coldstart
. tests/bench/python.sh

mkdir -p "$out"
needed packages "$tutorial/requirements.txt" --only-binary=:all:
needed tools "$here/requirements.txt" --only-binary=:all:
lay_out_tutorial

stamp=$(cat "$here/models.py" "$here/prepare.sh" "$here/requirements.txt" "$tutorial/requirements.txt" tests/models/wine.json tests/models/wine-v1.onnx \
    extension/src/onnx/quantize/*.rs | sha256sum)
if [ "$(cat "$out/models.stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "$bench: generating the models"
    rm -rf "$out/models" "$out/models.new"
    mkdir "$out/models.new"
    PYTHONPATH="$out/packages:$out/tools" "$python" "$here/models.py" "$out/models.new"
    cp tests/models/wine-v1.onnx "$out/models.new"
    mkdir "$out/models.new/optimised" "$out/models.new/quantized" "$out/models.new/compressed"
    for model in tabular-100mb tabular-250mb; do
        target/debug/modelctl optimize "$out/models.new/$model.onnx" -o "$out/models.new/optimised"
        target/debug/modelctl optimize "$out/models.new/$model.onnx" -o "$out/models.new/quantized" --quantize int8
    done
    PYTHONPATH="$out/packages:$out/tools" "$python" "$here/models.py" "$out/models.new/quantized" --quantized
    PYTHONPATH="$out/packages:$out/tools" "$python" "$here/models.py" "$out/models.new/compressed" --compressed
    mv "$out/models.new" "$out/models"
    echo "$stamp" >"$out/models.stamp"
fi
