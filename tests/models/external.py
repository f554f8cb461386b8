"""Creates the models with external data, in external/, and runs each of them once.

external.json has the files that each model references, as the onnx package reads them. ONNX Runtime
must load the valid models with the expected outputs, and must reject those that reference a file
outside of their folder.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import _get_all_tensors, uses_external_data

HERE = Path(__file__).resolve().parent / "external"
FLOAT = TensorProto.FLOAT
OPSETS = [helper.make_opsetid("", 21)]
ONES = np.ones(4, np.float32)


def external(name, location, values, offset=0):
    """Returns a tensor with values at `offset` of the file `location`, and writes the file."""
    tensor = TensorProto(name=name, data_location=TensorProto.EXTERNAL)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor.dims.extend(values.shape)
    for key, value in [("location", location), ("offset", offset), ("length", values.nbytes)]:
        tensor.external_data.add(key=key, value=str(value))
    if not location.startswith(("/", "..")):
        file = HERE / location
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.read_bytes()[:offset] if file.exists() else b""
        file.write_bytes(before.ljust(offset, b"\0") + values.tobytes())
    return tensor


def value(name, shape=(4,), datatype=FLOAT):
    return helper.make_tensor_value_info(name, datatype, list(shape))


def graph(nodes, inputs, outputs, initializers=(), **more):
    return helper.make_graph(nodes, "graph", inputs, outputs, list(initializers), **more)


def model(main, functions=(), opsets=()):
    made = helper.make_model(
        main,
        producer_name="model-sidecar-tests",
        opset_imports=OPSETS + list(opsets),
        functions=list(functions),
        ir_version=10,
    )
    made.metadata_props.add(key="made by", value="external.py")
    made.metadata_props.add(key="names", value='{"0": "Grüner Veltliner"}')
    return made


def sum_of(*tensors):
    """y = x + the sum of the tensors."""
    node = helper.make_node("Sum", ["x", *(tensor.name for tensor in tensors)], ["y"])
    return model(graph([node], [value("x")], [value("y")], tensors))


def subgraphs():
    """y = x + a, or x + b where `which` is false; `a` an initializer, `b` a constant of a branch."""
    a = external("a", "branches/then.bin", ONES)
    b = external("b", "branches/else.bin", 2 * ONES)
    then = graph([helper.make_node("Add", ["x", "a"], ["y1"])], [], [value("y1")], [a])
    constant = helper.make_node("Constant", [], ["b"], value=b)
    other = graph([constant, helper.make_node("Add", ["x", "b"], ["y2"])], [], [value("y2")])
    node = helper.make_node("If", ["which"], ["y"], then_branch=then, else_branch=other)
    return model(graph([node], [value("which", (), TensorProto.BOOL), value("x")], [value("y")]))


def function():
    """y = x + a constant within a function."""
    constant = helper.make_node("Constant", [], ["w"], value=external("w", "function.bin", ONES))
    body = [constant, helper.make_node("Add", ["in", "w"], ["out"])]
    plus = helper.make_function("tests", "Plus", ["in"], ["out"], body, OPSETS)
    node = helper.make_node("Plus", ["x"], ["y"], domain="tests")
    main = graph([node], [value("x")], [value("y")])
    return model(main, [plus], [helper.make_opsetid("tests", 1)])


def sparse():
    """y = x + a sparse tensor with two ones, its values and its indices in files."""
    values = external("w", "sparse-values.bin", ONES[:2])
    indices = external("", "sparse-indices.bin", np.array([0, 2], np.int64))
    tensor = helper.make_sparse_tensor(values, indices, [4])
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return model(graph([node], [value("x")], [value("y")], sparse_initializer=[tensor]))


def trained():
    """y = x + w, with a missing file that only training reads."""
    made = sum_of(numpy_helper.from_array(ONES, "w"))
    absent = external("a", "absent.bin", ONES)
    (HERE / "absent.bin").unlink()
    made.training_info.add().initialization.initializer.append(absent)
    return made


def odd():
    """y = x + w, with unusual names and fields that ONNX Runtime accepts."""
    inline = numpy_helper.from_array(ONES, "v")
    inline.external_data.add(key="location", value="ignored.bin")
    made = sum_of(inline, external("w", ".//odd/./weights.bin", ONES)).SerializeToString()
    unknown_group = b"\xa3\x06\x0a\x02hi\xa4\x06"  # Field 100.
    unknown_bytes = b"\xaa\x06\x03\xff\xff\xff"  # Field 101.
    again = onnx.ModelProto()  # Protobuf reads a message behind another as one with it.
    again.metadata_props.add(key="made by", value="external.py, twice")
    return unknown_group + made + unknown_bytes + again.SerializeToString()


def session(file):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def save(name, made, expected=None, feeds=None, files=None):
    """Writes the model, runs it or checks that it is rejected, and returns its metadata."""
    content = made if isinstance(made, bytes) else made.SerializeToString(deterministic=True)
    file = HERE / name
    file.write_bytes(content)
    try:
        loaded = session(file)
    except Exception as error:
        if expected is not None:
            raise
        print(f"{name}: refused: {type(error).__name__}")
    else:
        [found] = loaded.run(None, {"x": ONES, **(feeds or {})})
        if expected is None or not np.array_equal(found, expected):
            raise SystemExit(f"{name}: got {found}, expected {expected}")
        print(f"{name}: as expected")
    read = onnx.load(file, load_external_data=False)
    entries = [
        entry.value
        for tensor in _get_all_tensors(read)
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    ]
    # The list of the onnx package lacks sparse tensors.
    return {
        "external": sorted({*entries, *(files or [])}),
        "metadata": {entry.key: entry.value for entry in read.metadata_props},
    }


def main():
    HERE.mkdir(exist_ok=True)
    true, false = np.array(True), np.array(False)
    two = [external("a", "one.bin", ONES), external("b", "one.bin", 2 * ONES, offset=4096)]
    several = [external(name, f"several/{name}.bin", ONES) for name in "abc"]
    said = {
        "one-file.onnx": save("one-file.onnx", sum_of(*two), 4 * ONES),
        "several-files.onnx": save("several-files.onnx", sum_of(*several), 4 * ONES),
        "subgraphs.onnx": save("subgraphs.onnx", subgraphs(), 2 * ONES, {"which": true}),
        "function.onnx": save("function.onnx", function(), 2 * ONES),
        "sparse.onnx": save(
            "sparse.onnx",
            sparse(),
            np.array([2, 1, 2, 1], np.float32),
            files=["sparse-values.bin", "sparse-indices.bin"],
        ),
        "trained.onnx": save("trained.onnx", trained(), 2 * ONES),
        "odd.onnx": save("odd.onnx", odd(), 3 * ONES),
        "above.onnx": save("above.onnx", sum_of(external("w", "../one.bin", ONES))),
        "absolute.onnx": save("absolute.onnx", sum_of(external("w", "/etc/passwd", ONES))),
    }
    if not np.array_equal(
        session(HERE / "subgraphs.onnx").run(None, {"x": ONES, "which": false})[0], 3 * ONES
    ):
        raise SystemExit("subgraphs.onnx: the other branch is wrong")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(HERE / "one-file.ort")
    onnxruntime.InferenceSession(str(HERE / "one-file.onnx"), options, ["CPUExecutionProvider"])
    text = json.dumps(said, indent=1, ensure_ascii=False, sort_keys=True)
    (HERE / "external.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
