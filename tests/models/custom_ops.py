"""Creates the model with custom operators, and records its outputs in Python.

The operators are those of the PyPI package onnxruntime-extensions: a tokenizer, as in exported text
models, and two that transform strings.
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
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fine", "dry", "wine", "##s", "cork", "##ed", "."]
TEXTS = ["A fine, dry wine.", "corked wines", "Grüner Veltliner"]


def main():
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
    model = helper.make_model(
        helper.make_graph(nodes, "tokenizer", [text], outputs, constants),
        producer_name="model-sidecar-tests",
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    file = HERE / "custom-ops" / "tokenizer.onnx"
    file.write_bytes(model.SerializeToString(deterministic=True))

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    session = onnxruntime.InferenceSession(str(file), options)
    cases = []
    for text in TEXTS:
        ids, mask, upper, spelled = session.run(None, {"text": np.array([text], object)})
        answers = {"ids": ids, "mask": mask, "upper": upper, "spelled": spelled}
        answers = {name: value.tolist() for name, value in answers.items()}
        cases.append({"text": text, "outputs": answers})
        print(text, answers)
    lines = json.dumps(cases, ensure_ascii=False, indent=1)
    (HERE / "custom-ops" / "tokenizer.json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
