"""Creates the zoo: small models of common exporters, with their outputs by ONNX Runtime in Python.

Each model is trained and exported by a common tool, run here by ONNX Runtime, and recorded with its
inputs, outputs and metadata in zoo.json. The expected response of /predict is built from the same
outputs; the output that is the prediction is set for each model by hand.

zoo_tensorflow.py creates the models of tf2onnx and zoo_pytorch.py those of PyTorch, each in its own environment; run
them first.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers.float16 import convert_float_to_float16

warnings.filterwarnings("ignore")

HERE = Path(__file__).resolve().parent
ZOO = HERE / "zoo"
CASES = []

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
NUMPY = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}


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


def iris():
    from sklearn.datasets import load_iris

    data = load_iris()
    rows = data.data.astype(np.float32)
    names = np.array([str(name) for name in data.target_names])[data.target]
    return rows, data.target, names


def sklearn():
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import (
        DictionaryType,
        DoubleTensorType,
        FloatTensorType,
        Int64TensorType,
        StringTensorType,
    )
    from sklearn.cluster import KMeans
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import GradientBoostingRegressor, IsolationForest
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.multioutput import MultiOutputClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    rows, target, names = iris()
    some = rows[::29]

    def export(name, model, example=None, **options):
        save(to_onnx(model, example, **options), name)

    numbered = LogisticRegression(random_state=0, max_iter=500).fit(rows, target)
    named = LogisticRegression(random_state=0, max_iter=500).fit(rows, names)
    export("sklearn-arrays", numbered, rows[:1], options={"zipmap": False})
    case("sklearn-arrays", {"X": some}, label("label", "probabilities"))
    export("sklearn-zipmap-names", named, rows[:1])
    case("sklearn-zipmap-names", {"X": some}, label("output_label", "output_probability"))
    export("sklearn-zipmap-columns", named, rows[:1], options={"zipmap": "columns"})
    case("sklearn-zipmap-columns", {"X": some}, label("output_label"))
    export("sklearn-nocl", named, rows[:1], options={"nocl": True, "zipmap": False})
    case("sklearn-nocl", {"X": some}, label("label", "probabilities"))
    fixed = [("X", FloatTensorType([1, 4]))]
    export("sklearn-one-row", named, initial_types=fixed)
    predict = label("output_label", "output_probability")
    case("sklearn-one-row", {"X": some}, predict, run=row_by_row(1), looped=True)

    table = pandas.DataFrame(
        {
            "age": [39, 50, 38, 53, 28, 37],
            "hours": [40.0, 13.5, 40.0, 40.0, 60.25, 38.0],
            "workclass": ["State", "Self", "Private", "Private", "Private", "Self"],
        }
    )
    pay = np.array([0, 1, 0, 1, 0, 1])
    transform = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["age", "hours"]),
            ("words", OneHotEncoder(handle_unknown="ignore"), ["workclass"]),
        ]
    )
    pipeline = make_pipeline(transform, LogisticRegression(random_state=0)).fit(table, pay)
    types = [
        ("age", Int64TensorType([None, 1])),
        ("hours", FloatTensorType([None, 1])),
        ("workclass", StringTensorType([None, 1])),
    ]
    export("sklearn-table", pipeline, initial_types=types)
    feeds = {
        "age": np.array([[39], [61], [17]], np.int64),
        "hours": np.array([[40.0], [12.5], [37.25]], np.float32),
        "workclass": np.array([["State"], ["Self"], ["unheard of"]], object),
    }
    case("sklearn-table", feeds, label("output_label", "output_probability"))

    boosted = GradientBoostingRegressor(n_estimators=5, max_depth=2, random_state=0)
    export("sklearn-regressor", boosted.fit(rows[:, :3], rows[:, 3]), rows[:1, :3])
    case("sklearn-regressor", {"X": some[:, :3]}, only)
    # A type without a shape has an unknown rank.
    export("sklearn-open-rank", boosted, initial_types=[("X", FloatTensorType())])
    case("sklearn-open-rank", {"X": some[:, :3]}, only)
    double = LinearRegression().fit(rows.astype(np.float64), rows[:, :2].astype(np.float64))
    export("sklearn-two-targets-double", double, initial_types=[("X", DoubleTensorType([None, 4]))])
    case("sklearn-two-targets-double", {"X": some.astype(np.float64)}, only)
    forest = IsolationForest(n_estimators=5, max_samples=16, random_state=0).fit(rows)
    opsets = {"": 21, "ai.onnx.ml": 3}
    export("sklearn-outliers", forest, rows[:1], target_opset=opsets)
    case("sklearn-outliers", {"X": some}, label("label"))
    export("sklearn-kmeans", KMeans(3, n_init=1, random_state=0).fit(rows), rows[:1])
    case("sklearn-kmeans", {"X": some}, label("label"))
    both = np.stack([target, target % 2], axis=1)
    tree = DecisionTreeClassifier(max_depth=2, random_state=0)
    export("sklearn-two-labels", MultiOutputClassifier(tree).fit(rows, both), rows[:1])
    case("sklearn-two-labels", {"X": some}, label("label"))

    texts = ["a fine wine", "a corked wine", "fine and dry", "corked and flat"]
    review = make_pipeline(TfidfVectorizer(), LogisticRegression(random_state=0))
    review.fit(texts, ["good", "bad", "good", "bad"])
    # The default locale, en_US, is missing on most systems.
    options = {TfidfVectorizer: {"locale": "C"}}
    texts = [("text", StringTensorType([None]))]
    export("sklearn-text", review, initial_types=texts, options=options)
    given = np.array(["a fine and dry wine", "flat", ""], object)
    case("sklearn-text", {"text": given}, label("output_label", "output_probability"))

    dictionaries = [{"sweet": 1.0, "dry": 0.0}, {"dry": 1.0}, {"sweet": 2.0, "red": 1.0}]
    vectors = DictVectorizer(sparse=False).fit(dictionaries)
    kind = DictionaryType(StringTensorType([1]), FloatTensorType([1]))
    export("sklearn-dictionary", vectors, initial_types=[("X", kind)])
    case("sklearn-dictionary", {"X": {"sweet": 1.5, "red": 1.0}}, only)


def boosted():
    import lightgbm
    import xgboost
    from onnxmltools import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    rows, target, _ = iris()
    some = rows[::29].copy()
    some[0, 0] = some[3, 2] = np.nan
    holes = rows.copy()
    holes[::7, 2] = np.nan
    types = [("input", FloatTensorType([None, 4]))]
    few = {"n_estimators": 4, "max_depth": 3, "random_state": 0, "n_jobs": 1}
    heights = rows[:, 3]

    model = xgboost.XGBClassifier(**few).fit(holes, target)
    save(convert_xgboost(model, initial_types=types), "xgboost-classifier")
    case("xgboost-classifier", {"input": some}, label("label", "probabilities"))
    model = xgboost.XGBRegressor(**few).fit(holes[:, :3], heights)
    three = [("input", FloatTensorType([None, 3]))]
    save(convert_xgboost(model, initial_types=three), "xgboost-regressor")
    case("xgboost-regressor", {"input": some[:, :3]}, only)

    quiet = few | {"verbose": -1, "num_leaves": 6}
    model = lightgbm.LGBMClassifier(**quiet).fit(holes, target)
    save(convert_lightgbm(model, initial_types=types), "lightgbm-classifier")
    case("lightgbm-classifier", {"input": some}, label("label", "probabilities"))
    save(convert_lightgbm(model, initial_types=types, zipmap=False), "lightgbm-arrays")
    case("lightgbm-arrays", {"input": some}, label("label", "probabilities"))
    model = lightgbm.LGBMRegressor(**quiet).fit(holes[:, :3], heights)
    save(convert_lightgbm(model, initial_types=three), "lightgbm-regressor")
    case("lightgbm-regressor", {"input": some[:, :3]}, only)


class Rows(CalibrationDataReader):
    """Calibration rows of a quantisation."""

    def __init__(self, name, rows):
        self.rest = iter([{name: rows}])

    def get_next(self):
        return next(self.rest, None)


def networks():
    rows, _, _ = iris()
    some = rows[::29]
    name = "tf2onnx-network"
    [given] = session(ZOO / f"{name}.onnx").get_inputs()
    case(name, {given.name: some}, only)
    images = np.linspace(-1, 1, 2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
    [image] = session(ZOO / "tf2onnx-images.onnx").get_inputs()
    case("tf2onnx-images", {image.name: images}, only)
    function = {
        "a": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32),
        "b": np.array([[5], [7]], np.int32),
    }
    case("tf2onnx-function", function, by_row)

    # A fixed batch of four rows.
    four = onnx.load(ZOO / f"{name}.onnx")
    for each in [*four.graph.input, *four.graph.output]:
        each.type.tensor_type.shape.dim[0].Clear()
        each.type.tensor_type.shape.dim[0].dim_value = 4
    del four.graph.value_info[:]
    save(four, "four-rows")
    case("four-rows", {given.name: rows[::12][:12]}, only, run=row_by_row(4), looped=True)

    half = convert_float_to_float16(onnx.load(ZOO / f"{name}.onnx"))
    save(half, "fp16")
    case("fp16", {given.name: some.astype(np.float16)}, only, tolerance=2e-3)
    mixed = convert_float_to_float16(onnx.load(ZOO / f"{name}.onnx"), keep_io_types=True)
    save(mixed, "fp16-inside")
    case("fp16-inside", {given.name: some}, only, tolerance=2e-3)
    quantize_static(
        ZOO / f"{name}.onnx",
        ZOO / "qdq-int8.onnx",
        Rows(given.name, rows),
        quant_format=QuantFormat.QDQ,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8,
    )
    save(onnx.load(ZOO / "qdq-int8.onnx"), "qdq-int8")
    case("qdq-int8", {given.name: some}, only)
    quantize_dynamic(ZOO / f"{name}.onnx", ZOO / "dynamic-int8.onnx", weight_type=QuantType.QUInt8)
    save(onnx.load(ZOO / "dynamic-int8.onnx"), "dynamic-int8")
    # Dynamic quantisation differs by one step between machines.
    case("dynamic-int8", {given.name: some}, only, tolerance=2e-2)


def pytorch():
    """Networks of PyTorch's exporters, most of them with external data."""
    rows, _, _ = iris()
    some = rows[::29]
    case("pytorch-network", {"features": some}, only)
    case("pytorch-before", {"features": some}, only)
    case("pytorch-half", {"features": some.astype(np.float16)}, only, tolerance=2e-3)
    images = np.linspace(-1, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
    case("pytorch-images", {"image": images}, by_row, more=["zoo/pytorch-images.onnx.data"])
    words = {
        "tokens": np.array([[3, 1, 49]], np.int64),
        "hidden": np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 1, 8),
        "cell": np.linspace(1, -1, 8, dtype=np.float32).reshape(1, 1, 8),
    }
    case("pytorch-words", words, by_row, more=["zoo/pytorch-words.onnx.data"])
    attention = {
        "tokens": np.sin(np.arange(2 * 5 * 16, dtype=np.float32)).reshape(2, 5, 16),
        "is_padding": np.array([[False] * 5, [False] * 3 + [True] * 2]),
    }
    case("pytorch-attention", attention, only, more=["zoo/pytorch-attention.onnx.data"])
    for doubled in (True, False):
        given = {"x": np.array([1, 2, 3], np.float32), "doubled": np.array([doubled])}
        name = f"pytorch-branches-{str(doubled).lower()}"
        case(name, given, only, file="zoo/pytorch-branches.onnx")


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


def main():
    sklearn()
    boosted()
    networks()
    pytorch()
    built()
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in CASES)
    (ZOO / "zoo.json").write_text("[\n" + lines + "\n]\n")
    size = sum(file.stat().st_size for file in ZOO.iterdir())
    print(f"{len(CASES)} cases, {size} bytes in all")


if __name__ == "__main__":
    main()
