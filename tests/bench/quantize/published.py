"""Text embedding of a package, with inputs.

`embedding(REAL, FOLDER)` returns the file of all-MiniLM-L6-v2 and its inputs. The package has weights without a graph, so
that the graph is built in FOLDER, as PyTorch's exporter writes it.
"""

import json
import re

import numpy as np
from onnx import TensorProto, helper

from network import Network

WORDS_PER_ROW = 32
HEADS = 12


def tensors(file):
    """Tensors of a file in the format of safetensors, all FP32 here."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    found = {}
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            found[name] = np.frombuffer(content[start:end], np.float32).reshape(entry["shape"])
    return found


def embedding(real, folder):
    weights = tensors(real / "model.safetensors")
    net = Network("all-MiniLM-L6-v2")
    constant, node = net.constant, net.node

    def dense(value, layer):
        product = node("MatMul", value, constant(weights[f"{layer}.weight"].T, f"{layer}.weight"))
        return node("Add", product, constant(weights[f"{layer}.bias"], f"{layer}.bias"))

    def normal(value, layer):
        parts = [constant(weights[name], name) for name in (f"{layer}.weight", f"{layer}.bias")]
        return node("LayerNormalization", value, *parts, axis=-1, epsilon=1e-12)

    def table(name):
        return weights[f"embeddings.{name}_embeddings.weight"]

    width = table("word").shape[1]
    words = node("Gather", constant(table("word")), "input_ids")
    positions = constant(table("position")[:WORDS_PER_ROW] + table("token_type")[0])
    value = normal(node("Add", words, positions), "embeddings.LayerNorm")
    split = constant(np.array([0, 0, HEADS, width // HEADS], np.int64))
    join = constant(np.array([0, 0, width], np.int64))
    scale = constant(np.float32((width // HEADS) ** -0.5))
    root, one, half = (constant(np.float32(it)) for it in (2**0.5, 1, 0.5))
    layers = 1 + max(int(found[1]) for found in map(re.compile(r"encoder\.layer\.(\d+)").match, weights) if found)
    for layer in (f"encoder.layer.{index}" for index in range(layers)):

        def part(name, order):
            return node("Transpose", node("Reshape", dense(value, f"{layer}.attention.self.{name}"), split), perm=order)

        scores = node("MatMul", part("query", [0, 2, 1, 3]), part("key", [0, 2, 3, 1]))
        scores = node("Softmax", node("Mul", scores, scale), axis=-1)
        mixed = node("Transpose", node("MatMul", scores, part("value", [0, 2, 1, 3])), perm=[0, 2, 1, 3])
        attended = dense(node("Reshape", mixed, join), f"{layer}.attention.output.dense")
        value = normal(node("Add", value, attended), f"{layer}.attention.output.LayerNorm")
        wide = dense(value, f"{layer}.intermediate.dense")
        gate = node("Add", node("Erf", node("Div", wide, root)), one)
        gelu = node("Mul", node("Mul", wide, gate), half)
        value = normal(node("Add", value, dense(gelu, f"{layer}.output.dense")), f"{layer}.output.LayerNorm")
    mean = node("ReduceMean", value, axes=[1], keepdims=0)
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", WORDS_PER_ROW])
    file = net.save(folder, [ids], node("LpNormalization", mean, axis=-1, p=2), ["batch", width])
    return file, {"input_ids": rows(real)}


def rows(real):
    """Words of the package's description that the vocabulary has whole, in rows without padding."""
    vocabulary = {word: index for index, word in enumerate((real / "vocab.txt").read_text(encoding="utf-8").split("\n"))}
    words = re.findall(r"[a-z]+", (real / "README.md").read_text(encoding="utf-8").lower())
    ids = [vocabulary[word] for word in words if word in vocabulary]
    inside = WORDS_PER_ROW - 2
    rows = [ids[start : start + inside] for start in range(0, min(len(ids), 8 * inside), inside)]
    first, last = vocabulary["[CLS]"], vocabulary["[SEP]"]
    return np.array([[first, *row, last] for row in rows if len(row) == inside], np.int64)
