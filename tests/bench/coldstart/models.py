"""Generates the models of `make bench-coldstart`, with their expected responses from ONNX Runtime.

`models.py FOLDER` writes tabular-12mb.onnx, tabular-100mb.onnx and tabular-250mb.onnx, and
answers.json: name -> prediction of ONNX Runtime in Python for the wine data's first row. Each is a
residual network over 13 features. Its blocks are layer normalisation, two matrix products with
biases and a ReLU, as in a transformer's feed-forward half. Weights are random, so that nothing can
be folded away or stored twice. They are scaled so that numbers keep their size from block to block,
and lie in the file as exporters leave them. wine-v1.onnx, of 1 KB, is the smallest model.

`models.py FOLDER --quantized` writes answers.json for the quantized models in FOLDER.
`models.py FOLDER --compressed` writes the models of FOLDER/.. to FOLDER, compressed with Zstandard.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import zstandard
from onnx import TensorProto, helper, numpy_helper

WINE = Path(__file__).resolve().parents[2] / "models"
FEATURES = 13
OUTPUTS = 8
# Name -> width, width inside a block, blocks: 8 · width · inside bytes a block.
SIZES = {
    "tabular-12mb": (512, 1024, 3),
    "tabular-100mb": (1024, 2048, 6),
    "tabular-250mb": (1024, 4352, 7),
}


def network(name, width, inside, blocks):
    random = np.random.default_rng(len(name) + width * blocks)
    weights, nodes = [], []

    def weight(label, *shape):
        values = random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[0]))
        weights.append(numpy_helper.from_array(values, label))
        return label

    def product(label, value, rows, columns):
        nodes.append(helper.make_node("MatMul", [value, weight(f"{label}.w", rows, columns)], [f"{label}.p"]))
        nodes.append(helper.make_node("Add", [f"{label}.p", weight(f"{label}.b", columns)], [label]))
        return label

    def normal(label, value):
        scale, shift = weight(f"{label}.scale", width), weight(f"{label}.shift", width)
        nodes.append(helper.make_node("LayerNormalization", [value, scale, shift], [label], axis=-1))
        return label

    value = product("embed", "x", FEATURES, width)
    for block in range(blocks):
        wide = product(f"{block}.up", normal(f"{block}.norm", value), width, inside)
        nodes.append(helper.make_node("Relu", [wide], [f"{block}.relu"]))
        back = product(f"{block}.down", f"{block}.relu", inside, width)
        nodes.append(helper.make_node("Add", [value, back], [f"{block}.sum"]))
        value = f"{block}.sum"
    nodes.append(helper.make_node("Identity", [product("head", normal("norm", value), width, OUTPUTS)], ["y"]))
    row = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", OUTPUTS])]
    graph = helper.make_graph(nodes, name, row, out, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def answer(file, row, options=None):
    """Result of the function of the tutorials."""
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: row})
    if not np.all(np.isfinite(outputs[0])):
        raise SystemExit(f"{file}: the output is not finite: {outputs[0]}")
    return outputs[0].tolist()


def quantized_answers(folder, row):
    """Writes the responses of the models that modelctl quantized in FOLDER."""
    options = onnxruntime.SessionOptions()
    # As the sidecar runs them, with expanded weights. The fused operators also quantize the activations.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    answers = {file.stem: answer(file, row, options) for file in sorted(folder.glob("*.onnx"))}
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


def compress(folder):
    """Compresses the models with the usual level of `zstd`."""
    for name in ("tabular-100mb", "tabular-250mb"):
        content = (folder.parent / f"{name}.onnx").read_bytes()
        compressed = zstandard.ZstdCompressor(level=3, threads=-1).compress(content)
        (folder / f"{name}.onnx.zst").write_bytes(compressed)


def main():
    folder = Path(sys.argv[1])
    if sys.argv[2:] == ["--compressed"]:
        return compress(folder)
    wine = json.loads((WINE / "wine.json").read_text(encoding="utf-8"))
    row = np.array([wine["rows"][0]], np.float32)
    if sys.argv[2:] == ["--quantized"]:
        return quantized_answers(folder, row)
    answers = {"wine-v1": answer(WINE / "wine-v1.onnx", row)}
    for name, shape in SIZES.items():
        file = folder / f"{name}.onnx"
        file.write_bytes(network(name, *shape))
        answers[name] = answer(file, row)
        print(f"  {file.name}: {file.stat().st_size / 1e6:.1f} MB")
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
