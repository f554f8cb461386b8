"""Exports a scikit-learn model: pip install scikit-learn skl2onnx"""

import sys

import numpy
from skl2onnx import to_onnx
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

data = load_wine()
rows = data.data.astype(numpy.float32)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, data.target)

# The example row declares names and types; the number of rows stays free.
exported = to_onnx(model, rows[:1])


def predict(rows):
    """Predictions of the original model, for a comparison."""
    return model.predict(rows)


if __name__ == "__main__":
    with open(sys.argv[1], "wb") as file:
        file.write(exported.SerializeToString())
