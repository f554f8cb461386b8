"""Trains the wine classifiers, converts them to ONNX, and records scikit-learn's predictions.

scikit-learn's wine data set (178 wines, 13 chemical measurements, three cultivars) stands for a
typical model. The model is a pipeline, converted with the defaults of skl2onnx. Its outputs are a
tensor of labels and a sequence of maps (ZipMap).

The references in wine.json come from `predict` and `predict_proba`, never from ONNX. Both sides
process the same numbers: scikit-learn gets the rows as float32, and each decimal in the file is
exactly that float32. The script fails unless ONNX Runtime agrees with every reference.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-5
# Tests of reloads identify the version by its outputs.
MIN_ROWS_THAT_DIFFER = 15


def logistic():
    return make_pipeline(StandardScaler(), LogisticRegression(random_state=0))


def small_forest():
    """Stumps: a deliberately worse model, so that many rows change their label."""
    return RandomForestClassifier(n_estimators=5, max_depth=1, random_state=3, n_jobs=1)


def reference(model, rows):
    """Predictions of scikit-learn for `rows`."""
    return {
        "classes": model.classes_.tolist(),
        "labels": model.predict(rows).tolist(),
        "probabilities": model.predict_proba(rows).astype(np.float32),
    }


def convert(model, rows, file, graph):
    """Writes `model` to `file` with the defaults of skl2onnx."""
    onnx_model = to_onnx(model, rows[:1])
    # The graph's name and the order of the operator sets are random in skl2onnx; a rebuild must
    # produce the same bytes.
    onnx_model.graph.name = graph
    opsets = sorted(onnx_model.opset_import, key=lambda opset: opset.domain)
    del onnx_model.opset_import[:]
    onnx_model.opset_import.extend(opsets)
    (HERE / file).write_bytes(onnx_model.SerializeToString(deterministic=True))


def check(file, rows, expected):
    """Fails unless ONNX Runtime returns the labels and probabilities of `expected`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(HERE / file), options, providers=["CPUExecutionProvider"]
    )
    labels, maps = session.run(None, {"X": rows})
    if labels.tolist() != expected["labels"]:
        raise SystemExit(f"{file}: labels differ from scikit-learn's")
    for found in maps:
        if list(found) != expected["classes"]:
            raise SystemExit(f"{file}: classes {list(found)}, expected {expected['classes']}")
    found = np.array([list(row.values()) for row in maps])
    worst = float(np.abs(found - expected["probabilities"]).max())
    if not worst <= TOLERANCE:
        raise SystemExit(f"{file}: probabilities differ by {worst}, allowed {TOLERANCE}")
    print(f"{file}: {len(labels)} rows, worst difference of a probability {worst:.1e}")


def decimals(rows):
    """Shortest decimals of these float32 values, as JSON rows, one per line."""
    lines = []
    for row in rows:
        words = [np.format_float_positional(value, trim="-") for value in row]
        for word, value in zip(words, row, strict=True):
            # The same number, whether parsed as a double and narrowed or parsed as a float32.
            if np.float32(float(word)) != value or np.float32(word) != value:
                raise SystemExit(f"{word} does not name the float32 {value!r}")
        lines.append("[" + ",".join(words) + "]")
    return "[\n" + ",\n".join(lines) + "\n]"


def to_json(data, rows, references):
    parts = [
        f'"features":{json.dumps(data.feature_names)}',
        f'"rows":{decimals(rows)}',
    ]
    for name, answer in references.items():
        parts.append(
            f'"{name}":{{"classes":{json.dumps(answer["classes"])},\n'
            f'"labels":{json.dumps(answer["labels"], separators=(",", ":"))},\n'
            f'"probabilities":{decimals(answer["probabilities"])}}}'
        )
    return "{" + ",\n".join(parts) + "}\n"


def main():
    data = load_wine()
    rows = data.data.astype(np.float32)
    names = np.array([str(name) for name in data.target_names])[data.target]

    models = {
        "v1": ("wine-v1.onnx", logistic().fit(rows, data.target)),
        "v2": ("wine-v2.onnx", small_forest().fit(rows, data.target)),
        "names": ("wine-names.onnx", logistic().fit(rows, names)),
    }
    references = {}
    for version, (file, model) in models.items():
        references[version] = reference(model, rows)
        convert(model, rows, file, f"wine {version}")
        check(file, rows, references[version])

    v1, v2 = references["v1"], references["v2"]
    labels = int(np.sum(np.array(v1["labels"]) != np.array(v2["labels"])))
    nearest = float(np.abs(v1["probabilities"] - v2["probabilities"]).max(axis=1).min())
    print(f"v1 and v2: {labels} labels differ; probabilities of every row by {nearest:.3f} or more")
    if labels < MIN_ROWS_THAT_DIFFER or nearest < 100 * TOLERANCE:
        raise SystemExit("the two versions cannot be told apart by their answers")

    text = to_json(data, rows, references)
    # The file is written by hand to keep its decimals: check that it is valid JSON.
    json.loads(text)
    (HERE / "wine.json").write_text(text)


if __name__ == "__main__":
    main()
