"""Exports a LightGBM model: pip install lightgbm onnxmltools scikit-learn"""

import sys

import numpy
from lightgbm import LGBMClassifier
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_wine

data = load_wine()
rows = data.data.astype(numpy.float32)
model = LGBMClassifier(n_estimators=20, verbose=-1).fit(rows, data.target)

# None: the number of rows stays free.
exported = convert_lightgbm(model, initial_types=[("features", FloatTensorType([None, rows.shape[1]]))])


def predict(rows):
    """Predictions of the original model, for a comparison."""
    return model.predict(rows)


if __name__ == "__main__":
    with open(sys.argv[1], "wb") as file:
        file.write(exported.SerializeToString())
