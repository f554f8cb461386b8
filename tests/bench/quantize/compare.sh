#!/bin/sh
# compare.sh MODELCTL: installs the packages in target/bench/quantize and compares the quantization of both tools.
set -eu
modelctl=$(realpath "$1")
cd "$(dirname "$0")/../../.."

here=tests/bench/quantize
out=target/bench/quantize
. tests/bench/python.sh

mkdir -p "$out"
needed packages "$here/requirements.txt" --only-binary=:all:
PYTHONPATH="$out/packages" "$python" "$here/compare.py" "$modelctl" "$out/models"
