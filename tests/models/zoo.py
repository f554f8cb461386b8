"""Creates the zoo: small models of common exporters, with their outputs by ONNX Runtime in Python.

Each model is trained and exported by a common tool, run here by ONNX Runtime, and recorded with its
inputs, outputs and metadata in zoo.json. The expected response of /predict is built from the same
outputs; the output that is the prediction is set for each model by hand.

zoo_tensorflow.py creates the models of tf2onnx and zoo_pytorch.py those of PyTorch, each in its own environment; run
them first.
"""

import json
import warnings

import numpy as np
import onnx
import pandas
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers.float16 import convert_float_to_float16

from zoo_built import built
from zoo_cases import CASES, ZOO, by_row, case, label, only, row_by_row, save, session

warnings.filterwarnings("ignore")


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
