"""Exports a TensorFlow model of Keras: pip install tensorflow tf2onnx scikit-learn"""

import sys

import keras
import numpy
import tensorflow
import tf2onnx
from sklearn.datasets import load_wine

data = load_wine()
rows = data.data.astype(numpy.float32)

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.layers.Input(rows.shape[1:]),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(16, activation="relu"),
        keras.layers.Dense(3, activation="softmax"),
    ]
)
model.compile(loss="sparse_categorical_crossentropy", optimizer=keras.optimizers.Adam(0.01))
model.fit(rows, data.target, epochs=20, verbose=0)


def predict(rows):
    """Predictions of the original model, for a comparison."""
    return model.predict(rows, verbose=0)


if __name__ == "__main__":
    # None: the number of rows stays free. The function names the output.
    signature = [tensorflow.TensorSpec([None, rows.shape[1]], tensorflow.float32, "features")]
    function = tensorflow.function(lambda features: {"probabilities": model(features)})
    tf2onnx.convert.from_function(function, signature, output_path=sys.argv[1])
