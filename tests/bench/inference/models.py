"""Generates the models of `make bench-inference`, their inputs, and the expected outputs of ONNX Runtime.

`models.py FOLDER` writes, for each of small, image and heavy, NAME.onnx and NAME.f32 (the
input's numbers, little-endian), and answers.json: name -> the numbers of the first output.

- small: wine-v1.onnx, scikit-learn's classifier of 13 features, with labels and probabilities.
- image: 1x3x224x224, averaged over each channel: as little to compute as an image allows, so that
  what is measured is the way there.
- heavy: 13 features, blown up to 64 channels of 32x32 and convolved often enough to take more than
  5 ms on one thread. The computation fits into the CPU's cache, so that it scales with CPUs.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

MODELS = Path(__file__).resolve().parents[2] / "models"
CONVOLUTIONS = 16


def write(path, nodes, weights, shape, outputs):
    row = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs])]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, path.stem, row, out, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def image(path, random):
    weights = {"w": random.standard_normal((3, 4), dtype=np.float32)}
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    write(path, nodes, weights, ["batch", 3, 224, 224], 4)


def heavy(path, random):
    def scaled(*shape):
        fan = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
        return random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(fan / 2))

    weights = {"up": scaled(13, 4096), "shape": np.array([-1, 4, 32, 32], np.int64), "down": scaled(64, 3)}
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["wide"]),
        helper.make_node("Reshape", ["wide", "shape"], ["0"]),
    ]
    channels = 4
    for place in range(CONVOLUTIONS):
        weights[f"k{place}"] = scaled(64, channels, 3, 3)
        nodes.append(helper.make_node("Conv", [f"{place}", f"k{place}"], [f"c{place}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{place}"], [f"{place + 1}"]))
        channels = 64
    nodes += [
        helper.make_node("GlobalAveragePool", [f"{CONVOLUTIONS}"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "down"], ["y"]),
    ]
    write(path, nodes, weights, ["batch", 13], 3)


def main():
    folder = Path(sys.argv[1])
    random = np.random.default_rng(6)
    shutil.copy(MODELS / "wine-v1.onnx", folder / "small.onnx")
    image(folder / "image.onnx", random)
    heavy(folder / "heavy.onnx", random)
    wine = json.loads((MODELS / "wine.json").read_text(encoding="utf-8"))
    row = np.array([wine["rows"][0]], np.float32)
    picture = random.random((1, 3, 224, 224), dtype=np.float32)
    inputs = {"small": row, "image": picture, "heavy": row / np.float32(100)}
    answers = {}
    for name, given in inputs.items():
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        first = session.run(None, {session.get_inputs()[0].name: given})[0]
        if not np.all(np.isfinite(first)):
            raise SystemExit(f"{name}: the answer is not finite: {first}")
        answers[name] = first.ravel().tolist()
        given.astype("<f4").tofile(folder / f"{name}.f32")
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
