"""Creates the models with custom operators, and records their outputs in Python.

The operators are those of the PyPI package onnxruntime-extensions. One model has a tokenizer, as exported
text models do, and two that transform strings. The other decodes an image.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnxruntime_extensions import get_library_path

HERE = Path(__file__).resolve().parent
DOMAIN = "ai.onnx.contrib"
IMAGES = "com.microsoft.extensions"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fine", "dry", "wine", "##s", "cork", "##ed", "."]
TEXTS = ["A fine, dry wine.", "corked wines", "Grüner Veltliner"]


def tokenizer():
    text = helper.make_tensor_value_info("text", TensorProto.STRING, [1])
    outputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["tokens"]),
        helper.make_tensor_value_info("mask", TensorProto.INT64, ["tokens"]),
        helper.make_tensor_value_info("upper", TensorProto.STRING, [1]),
        helper.make_tensor_value_info("spelled", TensorProto.STRING, [1]),
    ]
    constants = [
        helper.make_tensor("pattern", TensorProto.STRING, [1], [b"(\\w+)ed"]),
        helper.make_tensor("rewrite", TensorProto.STRING, [1], [b"\\1'd"]),
    ]
    nodes = [
        helper.make_node(
            "BertTokenizer",
            ["text"],
            ["ids", "types", "mask"],
            domain=DOMAIN,
            vocab_file="\n".join(WORDS).encode(),
            do_lower_case=1,
            strip_accents=1,
        ),
        helper.make_node("StringUpper", ["text"], ["upper"], domain=DOMAIN),
        helper.make_node(
            "StringRegexReplace", ["text", "pattern", "rewrite"], ["spelled"], domain=DOMAIN
        ),
    ]
    graph = helper.make_graph(nodes, "tokenizer", [text], outputs, constants)
    session = saved("tokenizer.onnx", graph, DOMAIN)
    cases = []
    for text in TEXTS:
        ids, mask, upper, spelled = session.run(None, {"text": np.array([text], object)})
        answers = {"ids": ids, "mask": mask, "upper": upper, "spelled": spelled}
        answers = {name: value.tolist() for name, value in answers.items()}
        cases.append({"text": text, "outputs": answers})
        print(text, answers)
    lines = json.dumps(cases, ensure_ascii=False, indent=1)
    (HERE / "custom-ops" / "tokenizer.json").write_text(lines + "\n")


def image():
    """A model whose input is the bytes of a JPEG, and a JPEG of a gradient with its outputs."""
    file = helper.make_tensor_value_info("file", TensorProto.UINT8, ["bytes"])
    outputs = [
        helper.make_tensor_value_info("size", TensorProto.INT64, [3]),
        helper.make_tensor_value_info("mean", TensorProto.FLOAT, [3]),
    ]
    nodes = [
        helper.make_node("DecodeImage", ["file"], ["pixels"], domain=IMAGES),
        helper.make_node("Shape", ["pixels"], ["size"]),
        helper.make_node("Cast", ["pixels"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["mean"], keepdims=0),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [0, 1])
    graph = helper.make_graph(nodes, "image", [file], outputs, [axes])
    session = saved("image.onnx", graph, IMAGES)

    row, column = np.mgrid[0:24, 0:32]
    pixels = np.stack([row * 10, column * 8, np.full_like(row, 60)], axis=-1).astype(np.uint8)
    photo = encoded(pixels)
    (HERE / "custom-ops" / "photo.jpg").write_bytes(photo)
    size, mean = session.run(None, {"file": np.frombuffer(photo, np.uint8)})
    # Within JPEG's loss of what was encoded.
    assert np.abs(mean - pixels.mean(axis=(0, 1))).max() < 2, mean
    answers = {"size": size.tolist(), "mean": mean.tolist()}
    print(answers)
    (HERE / "custom-ops" / "image.json").write_text(json.dumps(answers) + "\n")


def encoded(pixels):
    """Encodes an image as JPEG, with the package's own operator."""
    node = helper.make_node("EncodeImage", ["pixels"], ["file"], domain=IMAGES, format="jpg")
    graph = helper.make_graph(
        [node],
        "encoder",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, pixels.shape)],
        [helper.make_tensor_value_info("file", TensorProto.UINT8, ["bytes"])],
    )
    return session_of(model_of(graph, IMAGES)).run(None, {"pixels": pixels})[0].tobytes()


def saved(name, graph, domain):
    """Writes a model, and opens it."""
    model = model_of(graph, domain)
    (HERE / "custom-ops" / name).write_bytes(model)
    return session_of(model)


def model_of(graph, domain):
    model = helper.make_model(
        graph,
        producer_name="model-sidecar-tests",
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def session_of(model):
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    return onnxruntime.InferenceSession(model, options)


def main():
    tokenizer()
    image()


if __name__ == "__main__":
    main()
