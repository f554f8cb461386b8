"""Exports an XGBoost model: pip install xgboost-cpu onnxmltools scikit-learn"""

import sys

import numpy
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_wine
from xgboost import XGBClassifier

data = load_wine()
rows = data.data.astype(numpy.float32)
model = XGBClassifier(n_estimators=20).fit(rows, data.target)

# None: the number of rows stays free.
exported = convert_xgboost(model, initial_types=[("features", FloatTensorType([None, rows.shape[1]]))])


def predict(rows):
    """Predictions of the original model, for a comparison."""
    return model.predict(rows)


if __name__ == "__main__":
    with open(sys.argv[1], "wb") as file:
        file.write(exported.SerializeToString())
