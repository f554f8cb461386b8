"""Runs integer products on a CPU without VNNI, where sums of two 8-bit products saturate in 16 bits.

`saturation.py MODELCTL QEMU FOLDER` builds a model of products and one with an LSTM. Inputs and weights have one sign
each, so that sums are as large as they can be. modelctl runs each model on this CPU and on an emulated Haswell, which
has AVX2 and no VNNI. Results of modelctl's `int8-dynamic` must agree. The same models from ONNX Runtime's tool with
8-bit weights show that the test detects saturation: their results on Haswell must be wrong.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from compare import by_python, quantized, run
from network import Network

CPU = "Haswell"
ROWS = 4
STEPS, WIDTH, HIDDEN = 16, 256, 64
# Relative to the largest number. Integer sums are exact; the rest are roundings of FP32 instructions.
SAME = 1e-4
# Minimum error of a saturated result.
WRONG = 0.05


def positive(net, *shape):
    return net.constant(net.random.uniform(0.5, 1, shape).astype(np.float32))


def products(folder):
    net = Network("products")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])
    value = net.node("MatMul", "x", positive(net, WIDTH, WIDTH))
    value = net.node("Gemm", value, positive(net, WIDTH, WIDTH), positive(net, WIDTH), transB=1)
    return net.save(folder, [x], value, ["batch", WIDTH])


def recurrent(folder):
    net = Network("recurrent")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", STEPS * WIDTH])
    value = net.node("Reshape", "x", net.constant(np.array([STEPS, -1, WIDTH], np.int64)))
    # A small scale, so that gates are not all closed or open.
    weights = [net.constant(net.random.uniform(0.005, 0.01, shape).astype(np.float32)) for shape in
               ((1, 4 * HIDDEN, WIDTH), (1, 4 * HIDDEN, HIDDEN))]
    bias = net.constant(np.full((1, 8 * HIDDEN), -0.5, np.float32))
    value = net.node("LSTM", value, *weights, bias, hidden_size=HIDDEN)
    return net.save(folder, [x], value, [STEPS, 1, "batch", HIDDEN])


def outputs(modelctl, emulator, model, rows):
    """Outputs of modelctl on each row."""
    file = model.with_suffix(".golden.json")
    command = [*emulator, modelctl, "golden", model, "--data", rows, "-o", file]
    file.unlink(missing_ok=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    examples = json.loads(file.read_text(encoding="utf-8"))
    return np.array([example["outputs"][0]["data"] for example in examples], np.float64)


def main():
    modelctl, qemu, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    wrong = False
    print(f"{'model':<12} {'tool':<22} {f'{CPU}, of this CPU':>20} {f'{CPU}, of FP32':>18}")
    for file in (products(folder), recurrent(folder)):
        random = np.random.default_rng(5)
        width = WIDTH if file.stem == "products" else STEPS * WIDTH
        values = random.uniform(0.9, 1, (ROWS, width)).astype(np.float32)
        rows = file.with_suffix(".npy")
        np.save(rows, values)
        expected = np.array([run(file, {"x": row[np.newaxis]}).ravel() for row in values])
        for tool, model, saturates in (
            ("modelctl int8-dynamic", quantized(modelctl, file, "int8-dynamic", folder), False),
            ("python 8 bits", by_python(file, 8, folder), True),
        ):
            here = outputs(modelctl, [], model, rows)
            there = outputs(modelctl, [qemu, "-cpu", CPU], model, rows)
            largest = np.abs(expected).max()
            to_here, to_fp32 = (np.abs(there - other).max() / largest for other in (here, expected))
            print(f"{file.stem:<12} {tool:<22} {to_here:>20.1e} {to_fp32:>18.1e}", flush=True)
            wrong |= to_fp32 < WRONG if saturates else to_here > SAME or to_fp32 > WRONG
    if wrong:
        print(f"a result is wrong on {CPU}, or the control is not")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
