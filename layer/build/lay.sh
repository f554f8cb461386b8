#!/bin/sh
# Stages a layer and a function in the folders that Lambda mounts.
#
#     lay.sh BINARIES ONNXRUNTIME LAYER FUNCTION
#
# BINARIES contains `model-sidecar` and `bootstrap`, ONNXRUNTIME the library with its licences. Lambda
# mounts LAYER at /opt and FUNCTION at /var/task. A file is replaced only if its bytes changed, by a
# rename, so that a process that runs the old file is not affected.
set -eu

binaries=$1 onnxruntime=$2 layer=$3 function=$4
root=$(dirname "$0")/../..
library=libonnxruntime.so.1.28.0

put() { # put SOURCE TARGET MODE
    if cmp -s "$1" "$2"; then
        touch "$2" # unchanged in this build: tests compare the file's age with the sources'
        return 0
    fi
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.new.$$"
    chmod "$3" "$2.new.$$"
    mv "$2.new.$$" "$2"
}

put "$binaries/model-sidecar" "$layer/extensions/model-sidecar" 755
put "$onnxruntime/$library" "$layer/model-sidecar/lib/$library" 755
put "$onnxruntime/LICENSE" "$layer/model-sidecar/licenses/onnxruntime/LICENSE" 644
put "$onnxruntime/ThirdPartyNotices.txt" "$layer/model-sidecar/licenses/onnxruntime/ThirdPartyNotices.txt" 644
if [ -f "$root/LICENSE" ]; then
    put "$root/LICENSE" "$layer/model-sidecar/licenses/LICENSE" 644
fi
put "$binaries/bootstrap" "$function/bootstrap" 755
