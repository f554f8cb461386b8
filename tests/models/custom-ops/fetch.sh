#!/bin/sh
# Leaves in target/custom-ops the operators of the PyPI package onnxruntime-extensions, as a library
# that is loaded without Python: libortextensions.so.
#
# The package's library is a module for Python, and refers to Python's functions, which it never
# calls when ONNX Runtime loads it. The libpython.so built here defines these functions without an
# implementation, and libortextensions.so links both libraries. Run by `make custom-ops`.
set -eu
cd "$(dirname "$0")/../../.."

arch=$(uname -m | sed s/arm64/aarch64/)
from=tests/models/custom-ops
into=target/custom-ops
module=_extensions_pydll.cpython-311-$arch-linux-gnu.so

"${PYTHON:-python3}" layer/build/wheel.py "$from/$arch.txt" "$into" \
    --platform "manylinux_2_27_$arch" --platform "manylinux_2_28_$arch" \
    "onnxruntime_extensions/$module"
if [ -f "$into/libortextensions.so" ] && [ "$into/libortextensions.so" -nt "$from/fetch.sh" ]; then
    exit 0
fi
cd "$into"
nm -D --undefined-only "$module" | awk '$NF ~ /^_?Py/ { print "char " $NF "[4096];" }' >python.c
echo >nothing.c
cc=${CC:-cc}
"$cc" -shared -fPIC -Wl,-soname,libpython.so -o libpython.so python.c
# shellcheck disable=SC2016  # the loader's own word for the library's folder
"$cc" -shared -fPIC -o libortextensions.so.new nothing.c \
    -Wl,--no-as-needed -L. "-l:$module" -l:libpython.so '-Wl,-rpath,$ORIGIN'
mv libortextensions.so.new libortextensions.so
