"""Prints the table of docs/models.md on sizes and memory (`make bench-quantize`).

`sizes.py MODELCTL REAL FOLDER`: FOLDER has the models and the quantized files that compare.py has made of the models in
REAL. `modelctl check` measures the peak memory of a load and of runs, and advises the memory of a function. Dimensions
that the model leaves free are 1.
"""

import json
import subprocess
import sys
from pathlib import Path

KINDS = ("int8", "int8-dynamic")


def checked(modelctl, file):
    """Report of `modelctl check`."""
    command = [modelctl, "check", "--json", file]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def cell(report):
    """Size of the file, and peak memory."""
    return f"{report['bytes'] / 1e6:.1f} MB, {report['peak_bytes'] / 1e6:.0f} MB"


def main():
    modelctl, real, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    silero, ocr = real / "silero", real / "rapidocr"
    models = [
        ("speech detector with LSTM, silero-vad 6.2.3", silero / "silero_vad_16k_sequence.onnx"),
        ("text detector, PP-OCRv6", ocr / "PP-OCRv6_det_small.onnx"),
        ("text recognizer, PP-OCRv6", ocr / "PP-OCRv6_rec_small.onnx"),
        ("image classifier, shape of ResNet-18", folder / "resnet-like.onnx"),
        ("sentence embedding, all-MiniLM-L6-v2", folder / "all-MiniLM-L6-v2.onnx"),
    ]
    columns = ["kind", "FP32", *(f"`{kind}`" for kind in KINDS), "function"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for kind, file in models:
        report = checked(modelctl, file)
        cells = [cell(checked(modelctl, folder / form / file.name)) for form in KINDS]
        print(f"| {kind} | {cell(report)} | {' | '.join(cells)} | {report['memory_mb']} MB |", flush=True)


if __name__ == "__main__":
    main()
