"""Records the models of the zoo: runs each by ONNX Runtime, and keeps its inputs, outputs and metadata."""

from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
ZOO = HERE / "zoo"
CASES = []

# Types that ONNX Runtime and NumPy name alike.
COMMON = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
}
DATATYPES = COMMON | {"float": "FP32", "double": "FP64", "string": "BYTES"}
NUMPY = COMMON | {"float32": "FP32", "float64": "FP64"}


def save(model, name):
    """Writes a model reproducibly: the same package versions produce the same bytes."""
    model.graph.name = name
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    (ZOO / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def element(value):
    """Scalar as JSON."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str | bool):
        return value
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        if np.isnan(value):
            return None
        if np.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
    return value


def nested(value):
    """Value of ONNX Runtime as nested JSON."""
    if isinstance(value, np.ndarray):
        return [nested(row) for row in value] if value.ndim else element(value[()])
    if isinstance(value, list | tuple):
        return [nested(each) for each in value]
    if isinstance(value, dict):
        return [{"key": element(key), "value": element(each)} for key, each in value.items()]
    return element(value)


def flat(array):
    return [element(value) for value in array.ravel()]


def datatype(array):
    return "BYTES" if array.dtype.kind in "OUS" else NUMPY[array.dtype.name]


def is_zip_map(value):
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def classes(rows):
    """Probabilities by class, and the classes, of a sequence of maps."""
    names = list(rows[0])
    return names, np.array([[row[name] for name in names] for row in rows], np.float32)


def written(name, value, is_output):
    """Value in the format of the Open Inference Protocol."""
    if is_output and is_zip_map(value):
        names, rows = classes(value)
        labels = {"labels": [element(each) for each in names]}
        return {"parameters": labels} | written(name, rows, is_output)
    if isinstance(value, np.ndarray):
        shape, data = list(value.shape), flat(value)
        return {"name": name, "datatype": datatype(value), "shape": shape, "data": data}
    kind = "MAP" if isinstance(value, dict) else "SEQUENCE"
    return {"name": name, "datatype": kind, "shape": [len(value)], "data": nested(value)}


def port(argument, is_output):
    """Input or output as in the metadata."""
    kind = argument.type
    if is_output and kind.startswith("seq(map("):
        datatype, shape = "FP32", [-1, -1]
    elif kind.startswith("seq("):
        datatype, shape = "SEQUENCE", [-1]
    elif kind.startswith("map("):
        datatype, shape = "MAP", [-1]
    elif kind.startswith("optional("):
        datatype, shape = "OPTIONAL", []
    else:
        datatype = DATATYPES[kind.removeprefix("tensor(").removesuffix(")")]
        shape = [length if isinstance(length, int) else -1 for length in argument.shape]
    return {"name": argument.name, "datatype": datatype, "shape": shape}


def session(file):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def case(name, feeds, predict, file=None, more=(), run=None, looped=False, tolerance=1e-5):
    """Runs the model, and records inputs and outputs.

    `predict` maps the outputs by name to the response of /predict. `run` replaces a single run; `looped`
    marks requests that need several runs, which only /predict supports.
    """
    file = file or f"zoo/{name}.onnx"
    model = session(HERE / file)
    names = [output.name for output in model.get_outputs()]
    given = {key: value for key, value in feeds.items() if value is not None}
    run = run or (lambda model, feeds: model.run(None, feeds))
    outputs = dict(zip(names, run(model, given), strict=True))
    overridable = [port(each, False) for each in model.get_overridable_initializers()]
    for each in overridable:
        each["datatype"], each["shape"] = "OPTIONAL", []
    CASES.append(
        {
            "name": name,
            "files": [file, *more],
            "metadata": {
                "inputs": [port(each, False) for each in model.get_inputs()] + overridable,
                "outputs": [port(each, True) for each in model.get_outputs()],
            },
            "infer": {
                "inputs": [written(key, value, False) for key, value in given.items()],
                "outputs": [written(key, value, True) for key, value in outputs.items()],
            },
            "predict": {"features": features(given), "answer": predict(outputs)},
            "looped": looped,
            "tolerance": tolerance,
        }
    )
    print(f"{name}: {(HERE / file).stat().st_size} bytes")


def features(given):
    """Rows for /predict: an array for one input, an object of columns for several."""
    if len(given) == 1:
        [(name, value)] = given.items()
        if isinstance(value, np.ndarray) and value.ndim:
            return nested(value)
    return {name: nested(value) for name, value in given.items()}


def label(name, probabilities=None):
    """Response with this output as the prediction, probabilities, and the other outputs by name."""

    def answer(outputs):
        labels = outputs[name]
        labels = labels.ravel() if labels.ndim == 2 and labels.shape[1] == 1 else labels
        result = {"prediction": nested(labels)}
        if probabilities is not None:
            value = outputs[probabilities]
            if is_zip_map(value):
                names, value = classes(value)
                result["classes"] = [element(each) for each in names]
            result["probabilities"] = nested(value)
        others = {key: value for key, value in outputs.items() if key not in (name, probabilities)}
        if others:
            result["outputs"] = {key: nested(value) for key, value in others.items()}
        return result

    return answer


def only(outputs):
    """The only output."""
    [value] = outputs.values()
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return {"prediction": [element(value[()])]}
    return {"prediction": nested(value)}


def by_row(outputs):
    """All outputs by name, by row."""
    rows = len(next(iter(outputs.values())))
    return {
        "prediction": [
            {name: nested(value[row]) for name, value in outputs.items()} for row in range(rows)
        ]
    }


def whole(outputs):
    """All outputs by name, without common rows."""
    return {"prediction": [{name: nested(value) for name, value in outputs.items()}]}


def row_by_row(step):
    """Runs a model with a fixed batch size on more rows."""

    def run(model, feeds):
        rows = len(next(iter(feeds.values())))
        parts = [
            model.run(None, {name: value[at : at + step] for name, value in feeds.items()})
            for at in range(0, rows, step)
        ]
        return [
            np.concatenate(each) if isinstance(each[0], np.ndarray) else sum(each, [])
            for each in map(list, zip(*parts, strict=True))
        ]

    return run
