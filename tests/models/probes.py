"""Creates small models that each test one feature of the engine, and runs each of them once.

ONNX Runtime loads and runs every valid model here, and the outputs are compared. So a failing test is
a fault of the engine and not of the model. The two invalid models must be rejected. Run wine.py first:
truncated.onnx is a part of wine-v1.onnx.
"""

import ctypes
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

HERE = Path(__file__).resolve().parent
OPSET = 21
IR_VERSION = 10
FREE = ["rows", "columns"]

FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
STRING = TensorProto.STRING

# ONNX type -> its number, and a sample with the extremes of the type.
DATATYPES = {
    "float": (FLOAT, np.array([[0.1, -np.inf]], np.float32)),
    "double": (TensorProto.DOUBLE, np.array([[0.1, -1e300]], np.float64)),
    "float16": (TensorProto.FLOAT16, np.array([[0.1, 65504]], np.float16)),
    "bfloat16": (TensorProto.BFLOAT16, np.array([[0.1, -3e38]], ml_dtypes.bfloat16)),
    "int8": (TensorProto.INT8, np.array([[-128, 127]], np.int8)),
    "int16": (TensorProto.INT16, np.array([[-(2**15), 2**15 - 1]], np.int16)),
    "int32": (TensorProto.INT32, np.array([[-(2**31), 2**31 - 1]], np.int32)),
    "int64": (INT64, np.array([[-(2**63), 2**63 - 1]], np.int64)),
    "uint8": (TensorProto.UINT8, np.array([[0, 255]], np.uint8)),
    "uint16": (TensorProto.UINT16, np.array([[0, 2**16 - 1]], np.uint16)),
    "uint32": (TensorProto.UINT32, np.array([[0, 2**32 - 1]], np.uint32)),
    "uint64": (TensorProto.UINT64, np.array([[0, 2**64 - 1]], np.uint64)),
    "bool": (TensorProto.BOOL, np.array([[True, False]], np.bool_)),
    "string": (STRING, np.array([["Barolo", "žluťoučký"]], object)),
}


def tensor(name, datatype, shape):
    return helper.make_tensor_value_info(name, datatype, shape)


def save(file, nodes, inputs, outputs, initializers=(), domains=()):
    """Checks the graph and writes it."""
    graph = helper.make_graph(
        nodes, file.removesuffix(".onnx"), inputs, outputs, initializer=list(initializers)
    )
    model = helper.make_model(
        graph,
        producer_name="model-sidecar-tests",
        opset_imports=[helper.make_opsetid("", OPSET), *domains],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    (HERE / file).write_bytes(model.SerializeToString(deterministic=True))


def open_session(file):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # What matters is raised; the broken models only make noise.
    return onnxruntime.InferenceSession(
        str(HERE / file), options, providers=["CPUExecutionProvider"]
    )


def same(found, expected):
    """Equal in value, shape and datatype, through sequences and missing values."""
    if isinstance(expected, np.ndarray):
        return (
            isinstance(found, np.ndarray)
            and found.dtype == expected.dtype
            and np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f")
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(same, found, expected))
        )
    return expected is None and found is None


def expect(file, feeds, *expected):
    """Runs the model once; fails unless its outputs are `expected`."""
    found = open_session(file).run(None, feeds)
    if not same(found, list(expected)):
        raise SystemExit(f"{file}: got {found}, expected {list(expected)}")
    print(f"{file}: as expected")


def expect_refused(file):
    try:
        open_session(file)
    except Exception as error:
        print(f"{file}: refused: {type(error).__name__}")
    else:
        raise SystemExit(f"{file}: ONNX Runtime loaded it")


def identity():
    """x -> y, unchanged, for each datatype."""
    for name, (datatype, sample) in DATATYPES.items():
        file = f"identity-{name}.onnx"
        node = helper.make_node("Identity", ["x"], ["y"])
        save(file, [node], [tensor("x", datatype, FREE)], [tensor("y", datatype, FREE)])
        if name != "bfloat16":
            expect(file, {"x": sample}, sample)
            continue
        # numpy has no bfloat16: the values are passed as bits.
        bits = sample.view(np.uint16)
        value = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, datatype)
        [found] = open_session(file).run_with_ort_values(None, {"x": value})
        if found.data_type() != "tensor(bfloat16)":
            raise SystemExit(f"{file}: got {found.data_type()}")
        words = (ctypes.c_uint16 * bits.size).from_address(found.data_ptr())
        if found.shape() != list(bits.shape) or list(words) != bits.ravel().tolist():
            raise SystemExit(f"{file}: the values changed")
        print(f"{file}: as expected")


def shapes():
    """Other ranks and dimensions, and several inputs or outputs."""
    two = ["N", 2]
    a = np.array([[1, 2], [3, 4]], np.float32)
    b = np.array([[10, 20], [30, 40]], np.float32)

    save(
        "add-two-inputs.onnx",
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        [tensor("a", FLOAT, two), tensor("b", FLOAT, two)],
        [tensor("sum", FLOAT, two)],
    )
    expect("add-two-inputs.onnx", {"a": a, "b": b}, a + b)

    save(
        "two-outputs.onnx",
        [
            helper.make_node("Add", ["x", "x"], ["double"]),
            helper.make_node("IsNaN", ["x"], ["missing"]),
        ],
        [tensor("x", FLOAT, two)],
        [tensor("double", FLOAT, two), tensor("missing", TensorProto.BOOL, two)],
    )
    holes = np.array([[1, np.nan]], np.float32)
    expect("two-outputs.onnx", {"x": holes}, 2 * holes, np.isnan(holes))

    save(
        "scalar.onnx",
        [helper.make_node("Neg", ["x"], ["y"])],
        [tensor("x", FLOAT, [])],
        [tensor("y", FLOAT, [])],
    )
    expect("scalar.onnx", {"x": np.array(2.5, np.float32)}, np.array(-2.5, np.float32))

    save(
        "fixed-batch.onnx",
        [helper.make_node("Neg", ["x"], ["y"])],
        [tensor("x", FLOAT, [1, 4])],
        [tensor("y", FLOAT, [1, 4])],
    )
    row = np.array([[1, 2, 3, 4]], np.float32)
    expect("fixed-batch.onnx", {"x": row}, -row)

    constant = helper.make_tensor("value", FLOAT, [3], [1.0, 2.0, 3.0])
    save(
        "no-input.onnx",
        [helper.make_node("Constant", [], ["y"], value=constant)],
        [],
        [tensor("y", FLOAT, [3])],
    )
    expect("no-input.onnx", {}, np.array([1, 2, 3], np.float32))

    # A valid image model, as an overwrite by mistake may leave.
    save(
        "wrong-signature.onnx",
        [helper.make_node("GlobalAveragePool", ["image"], ["score"])],
        [tensor("image", FLOAT, ["N", 3, 8, 8])],
        [tensor("score", FLOAT, ["N", 3, 1, 1])],
    )
    image = np.ones((1, 3, 8, 8), np.float32)
    expect("wrong-signature.onnx", {"image": image}, np.ones((1, 3, 1, 1), np.float32))


def containers():
    """Outputs other than tensors."""
    x = np.array([[1, -2]], np.float32)

    save(
        "sequence.onnx",
        [
            helper.make_node("Neg", ["x"], ["negated"]),
            helper.make_node("SequenceConstruct", ["x", "negated"], ["y"]),
        ],
        [tensor("x", FLOAT, FREE)],
        [helper.make_tensor_sequence_value_info("y", FLOAT, FREE)],
    )
    expect("sequence.onnx", {"x": x}, [x, -x])

    # A state that starts empty and grows with each request.
    parts = helper.make_tensor_sequence_value_info("parts", FLOAT, FREE)
    grown = helper.make_tensor_sequence_value_info("grown", FLOAT, FREE)
    insert = helper.make_node("SequenceInsert", ["parts", "x"], ["grown"])
    save("sequence-grows.onnx", [insert], [parts, tensor("x", FLOAT, FREE)], [grown])
    expect("sequence-grows.onnx", {"parts": [], "x": x}, [x])
    expect("sequence-grows.onnx", {"parts": [x], "x": -x}, [x, -x])

    # An empty Optional and a tensor. ONNX Runtime returns it, which bindings may not support.
    inner = helper.make_tensor_type_proto(FLOAT, FREE)
    save(
        "optional-empty.onnx",
        [
            helper.make_node("Identity", ["x"], ["y"]),
            helper.make_node("Optional", [], ["nothing"], type=inner),
        ],
        [tensor("x", FLOAT, FREE)],
        [
            tensor("y", FLOAT, FREE),
            helper.make_value_info("nothing", helper.make_optional_type_proto(inner)),
        ],
    )
    expect("optional-empty.onnx", {"x": x}, x, None)


def strings():
    """Strings, unchanged and in upper case."""
    # The locale "C" exists on every system, unlike the default, en_US.
    save(
        "strings.onnx",
        [
            helper.make_node("Identity", ["x"], ["y"]),
            helper.make_node(
                "StringNormalizer", ["x"], ["upper"], case_change_action="UPPER", locale="C"
            ),
        ],
        [tensor("x", STRING, ["N"])],
        [tensor("y", STRING, ["N"]), tensor("upper", STRING, ["N"])],
    )
    words = np.array(["Barolo", "grignolino 2"], object)
    upper = np.array(["BAROLO", "GRIGNOLINO 2"], object)
    expect("strings.onnx", {"x": words}, words, upper)


def slow():
    """A run of `trips` consecutive matrix products.

    The product of a matrix of ones and a matrix of 1/128 is exactly the matrix of ones, so the
    output is always 1. A run can be cancelled between the products.
    """
    size = 128
    square = helper.make_tensor("square", INT64, [2], [size, size])
    start = helper.make_tensor("one", FLOAT, [1], [1.0])
    share = helper.make_tensor("share", FLOAT, [1], [1.0 / size])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("MatMul", ["state", "weights"], ["next"]),
        ],
        "body",
        [
            tensor("trip", INT64, []),
            tensor("go", TensorProto.BOOL, []),
            tensor("state", FLOAT, [size, size]),
        ],
        [tensor("go_on", TensorProto.BOOL, []), tensor("next", FLOAT, [size, size])],
    )
    save(
        "slow.onnx",
        [
            helper.make_node("ConstantOfShape", ["square"], ["ones"], value=start),
            helper.make_node("ConstantOfShape", ["square"], ["weights"], value=share),
            helper.make_node("Loop", ["trips", "", "ones"], ["last"], body=body),
            helper.make_node("ReduceMean", ["last"], ["mean"], keepdims=0),
            helper.make_node("Unsqueeze", ["mean", "axis"], ["y"]),
        ],
        [tensor("trips", INT64, [1])],
        [tensor("y", FLOAT, [1])],
        [square, helper.make_tensor("axis", INT64, [1], [0])],
    )
    expect("slow.onnx", {"trips": np.array([3], np.int64)}, np.array([1], np.float32))
    trips = 10_000
    session = open_session("slow.onnx")
    begin = time.monotonic()
    session.run(None, {"trips": np.array([trips], np.int64)})
    print(f"slow.onnx: {trips} trips take {time.monotonic() - begin:.2f} s here, on one thread")


def hungry():
    """A file of a few hundred bytes whose load needs most of a gigabyte. ONNX Runtime folds constants during
    the load, here the sum over an expanded tensor of 400 MB. Not loaded by this script.
    """
    save(
        "hungry.onnx",
        [
            helper.make_node("Expand", ["one", "shape"], ["expanded"]),
            helper.make_node("ReduceSum", ["expanded"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["x", "sum"], ["y"]),
        ],
        [tensor("x", FLOAT, [FREE[0], 1])],
        [tensor("y", FLOAT, [FREE[0], 1])],
        [
            helper.make_tensor("one", FLOAT, [1], [1.0]),
            helper.make_tensor("shape", INT64, [2], [100_000, 1024]),
        ],
    )


def sized():
    """A model whose input sets the memory of a run: that many zeros, and their maximum."""
    save(
        "sized.onnx",
        [
            helper.make_node("ConstantOfShape", ["count"], ["zeros"]),
            helper.make_node("ReduceMax", ["zeros"], ["y"], keepdims=1),
        ],
        [tensor("count", INT64, [1])],
        [tensor("y", FLOAT, [1])],
    )
    expect("sized.onnx", {"count": np.array([3], np.int64)}, np.array([0], np.float32))


def broken():
    """Files that are not models."""
    (HERE / "garbage.onnx").write_bytes(b"This is not a model, it is a sentence.\n")
    expect_refused("garbage.onnx")
    whole = (HERE / "wine-v1.onnx").read_bytes()
    (HERE / "truncated.onnx").write_bytes(whole[: len(whole) // 2])
    expect_refused("truncated.onnx")


def fails():
    """Version 1 of the wine model with a Reshape that fails in every run.

    It loads with the same signature, so that only a run reveals the failure.
    """
    model = onnx.load(HERE / "wine-v1.onnx")
    for node in model.graph.node:
        node.input[:] = ["impossible" if name == "X" else name for name in node.input]
    model.graph.initializer.append(helper.make_tensor("two", INT64, [1], [2]))
    front = [
        helper.make_node("Shape", ["X"], ["shape"]),
        helper.make_node("Mul", ["shape", "two"], ["larger"]),
        helper.make_node("Reshape", ["X", "larger"], ["impossible"]),
    ]
    nodes = front + list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    (HERE / "wine-fails.onnx").write_bytes(model.SerializeToString(deterministic=True))
    session = open_session("wine-fails.onnx")
    for rows in (1, 9, 178):
        try:
            session.run(None, {"X": np.ones((rows, 13), np.float32)})
        except Exception as error:
            print(f"wine-fails.onnx: {rows} rows: {type(error).__name__}")
        else:
            raise SystemExit("wine-fails.onnx: a run succeeded")


def expect_failure(file, feeds):
    try:
        open_session(file).run(None, feeds)
    except Exception as error:
        print(f"{file}: {type(error).__name__}")
    else:
        raise SystemExit(f"{file}: a run succeeded")


def rollbacks():
    """Models whose runs fail for some inputs or for all."""
    indices, floats = ["N"], ["N", 2]
    table = helper.make_tensor("table", FLOAT, [4], [10.0, 11.0, 12.0, 13.0])
    save(
        "gather.onnx",
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [tensor("x", INT64, indices)],
        [tensor("y", FLOAT, indices)],
        [table],
    )
    expect("gather.onnx", {"x": np.array([3, 0])}, np.array([13, 10], np.float32))
    expect_failure("gather.onnx", {"x": np.array([4])})
    narrow = helper.make_tensor("table", FLOAT, [3], [10.0, 11.0, 12.0])
    save(
        "gather-stricter.onnx",
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [tensor("x", INT64, indices)],
        [tensor("y", FLOAT, indices)],
        [narrow],
    )
    expect_failure("gather-stricter.onnx", {"x": np.array([3])})

    # A free number of rows, and a Reshape that accepts one.
    save(
        "one-row.onnx",
        [
            helper.make_node("Shape", ["x"], ["width"], start=1, end=2),
            helper.make_node("Div", ["width", "two"], ["half"]),
            helper.make_node("Concat", ["half", "width"], ["shape"], axis=0),
            helper.make_node("Reshape", ["x", "shape"], ["row"]),
            helper.make_node("MatMul", ["row", "weights"], ["y"]),
        ],
        [tensor("x", FLOAT, floats)],
        [tensor("y", FLOAT, ["N", 1])],
        [
            helper.make_tensor("two", INT64, [1], [2]),
            helper.make_tensor("weights", FLOAT, [2, 1], [2.0, 3.0]),
        ],
    )
    one = np.array([[1, 2]], np.float32)
    expect("one-row.onnx", {"x": one}, np.array([[8]], np.float32))
    expect_failure("one-row.onnx", {"x": np.concatenate([one, one])})

    # The same signature: a model whose every run succeeds, and one whose every run fails in a tree with a feature index
    # beyond the input.
    save(
        "linear.onnx",
        [helper.make_node("MatMul", ["x", "weights"], ["y"])],
        [tensor("x", FLOAT, floats)],
        [tensor("y", FLOAT, ["N", 1])],
        [helper.make_tensor("weights", FLOAT, [2, 1], [2.0, 3.0])],
    )
    expect("linear.onnx", {"x": one}, np.array([[8]], np.float32))
    tree = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[9, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[1.0, 2.0],
    )
    save(
        "tree-fails.onnx",
        [tree],
        [tensor("x", FLOAT, floats)],
        [tensor("y", FLOAT, ["N", 1])],
        domains=[helper.make_opsetid("ai.onnx.ml", 3)],
    )
    expect_failure("tree-fails.onnx", {"x": one})


def main():
    identity()
    shapes()
    containers()
    strings()
    slow()
    hungry()
    sized()
    broken()
    fails()
    rollbacks()


if __name__ == "__main__":
    main()
