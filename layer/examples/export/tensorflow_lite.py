"""Exports a TensorFlow Lite model with integers of 8 bits: pip install tensorflow tf2onnx scikit-learn"""

import pathlib
import sys

import keras
import numpy
import tensorflow
import tf2onnx
from sklearn.datasets import load_digits

data = load_digits()
rows = (data.images[..., None] / 16).astype(numpy.float32)

keras.utils.set_random_seed(0)
network = keras.Sequential(
    [
        keras.layers.Input(rows.shape[1:]),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
network.compile(loss="sparse_categorical_crossentropy", optimizer="adam")
network.fit(rows, data.target, epochs=5, verbose=0)

# The examples determine the range of each activation.
converter = tensorflow.lite.TFLiteConverter.from_keras_model(network)
converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([row[None]] for row in rows[:100])
model = converter.convert()


def predict(rows):
    """Predictions of the original model, for a comparison."""
    interpreter = tensorflow.lite.Interpreter(model_content=model)
    image, probabilities = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(image, rows.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(image, rows)
    interpreter.invoke()
    return interpreter.get_tensor(probabilities)


if __name__ == "__main__":
    file = pathlib.Path(sys.argv[1]).with_suffix(".tflite")
    file.write_bytes(model)
    tf2onnx.convert.from_tflite(str(file), output_path=sys.argv[1])
