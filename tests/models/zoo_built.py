"""Models of the zoo that are built node by node, for features that no exporter here covers; zoo.py runs them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo_cases import ZOO, case, only, save, whole

FLOAT = TensorProto.FLOAT


def tensor(name, datatype, shape):
    return helper.make_tensor_value_info(name, datatype, shape)


def graph(name, nodes, inputs, outputs, initializers=()):
    made = helper.make_graph(nodes, name, inputs, outputs, initializer=list(initializers))
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(
        made, producer_name="model-sidecar-tests", opset_imports=opsets, ir_version=10
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def built():
    """Models built node by node, for features that no exporter here covers."""
    random = np.random.default_rng(0)

    def weights(*shape):
        return random.normal(0, 0.5, shape).astype(np.float32)

    # A stateful model with external data, in the format of PyTorch.
    parts = {"W": weights(1, 12, 3), "R": weights(1, 12, 4), "B": weights(1, 24)}
    gru = graph(
        "gru",
        [
            helper.make_node("GRU", ["x", "W", "R", "B", "", "h"], ["ys", "h_next"], hidden_size=4),
            helper.make_node("Squeeze", ["ys", "one"], ["y"]),
        ],
        [tensor("x", FLOAT, ["steps", "batch", 3]), tensor("h", FLOAT, [1, "batch", 4])],
        [tensor("y", FLOAT, ["steps", "batch", 4]), tensor("h_next", FLOAT, [1, "batch", 4])],
        [numpy_helper.from_array(value, name) for name, value in parts.items()]
        + [numpy_helper.from_array(np.array([1], np.int64), "one")],
    )
    (ZOO / "gru.onnx.data").unlink(missing_ok=True)
    onnx.save(
        gru,
        ZOO / "gru.onnx",
        save_as_external_data=True,
        location="gru.onnx.data",
        size_threshold=64,
    )
    feeds = {"x": weights(5, 2, 3), "h": np.zeros((1, 2, 4), np.float32)}
    case("gru", feeds, whole, more=["zoo/gru.onnx.data"])

    # y = x + bias, or x without the optional input.
    inner = helper.make_tensor_type_proto(FLOAT, ["N"])
    optional = helper.make_optional_type_proto(inner)
    having = helper.make_graph(
        [
            helper.make_node("OptionalGetElement", ["bias"], ["some"]),
            helper.make_node("Add", ["x", "some"], ["sum"]),
        ],
        "having",
        [],
        [tensor("sum", FLOAT, ["N"])],
    )
    lacking = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"])],
        "lacking",
        [],
        [tensor("same", FLOAT, ["N"])],
    )
    model = graph(
        "optional",
        [
            helper.make_node("OptionalHasElement", ["bias"], ["has"]),
            helper.make_node("If", ["has"], ["y"], then_branch=having, else_branch=lacking),
        ],
        [tensor("x", FLOAT, ["N"]), helper.make_value_info("bias", optional)],
        [tensor("y", FLOAT, ["N"])],
    )
    save(model, "optional")
    x = np.array([1, 2, 3], np.float32)
    case("optional", {"x": x, "bias": np.array([10, 20, 30], np.float32)}, only)

    def without(model, feeds):
        return model.run(None, feeds | {"bias": None})

    case("optional-left-out", {"x": x}, only, file="zoo/optional.onnx", run=without)

    # An input with a default: an initializer that the caller can override.
    model = graph(
        "default",
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [tensor("x", FLOAT, ["N"]), tensor("factor", FLOAT, [1])],
        [tensor("y", FLOAT, ["N"])],
        [numpy_helper.from_array(np.array([2], np.float32), "factor")],
    )
    save(model, "default")
    case("default-left-out", {"x": x}, only, file="zoo/default.onnx")
    case("default", {"x": x, "factor": np.array([-3], np.float32)}, only)

    sequence = helper.make_tensor_sequence_value_info
    model = graph(
        "sequence",
        [
            helper.make_node("ConcatFromSequence", ["parts"], ["whole"], axis=0),
            helper.make_node("SequenceLength", ["parts"], ["count"]),
            helper.make_node("SplitToSequence", ["whole"], ["rows"], axis=0),
        ],
        [sequence("parts", FLOAT, ["N", 2])],
        [
            tensor("whole", FLOAT, ["M", 2]),
            tensor("count", TensorProto.INT64, []),
            sequence("rows", FLOAT, [1, 2]),
        ],
    )
    save(model, "sequence")
    parts = [np.array([[1, 2]], np.float32), np.array([[3, 4], [5, 6]], np.float32)]
    case("sequence", {"parts": parts}, whole)
    model = graph(
        "words",
        [
            helper.make_node("SequenceAt", ["lines", "at"], ["line"]),
            helper.make_node("SequenceInsert", ["lines", "line"], ["more"]),
        ],
        [sequence("lines", TensorProto.STRING, ["N"]), tensor("at", TensorProto.INT64, [])],
        [tensor("line", TensorProto.STRING, ["N"]), sequence("more", TensorProto.STRING, ["N"])],
    )
    save(model, "words")
    lines = [np.array(["a", "ü"], object), np.array(["b \"c\""], object)]
    case("words", {"lines": lines, "at": np.array(1, np.int64)}, whole)

    # NaN and the infinities in every float type.
    case("special", {"x": np.array([[np.nan, np.inf, -np.inf, 0.1]], np.float32)}, only,
         file="identity-float.onnx")
    case("scalar", {"x": np.array(2.5, np.float32)}, only, file="scalar.onnx")
    case("empty", {"x": np.zeros((0, 3), np.float32)}, only, file="identity-float.onnx")
    case("no-input", {}, only, file="no-input.onnx")
