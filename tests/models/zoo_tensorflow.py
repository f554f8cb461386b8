"""Creates the zoo's models of TensorFlow's converter; zoo.py runs them.

Needs its own environment, since TensorFlow pins older versions of packages: see
zoo-tensorflow-requirements.txt.
"""

from pathlib import Path

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

ZOO = Path(__file__).resolve().parent / "zoo"


def save(model, name):
    model.graph.name = name
    (ZOO / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def convert(function, signature, name):
    model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=18)
    onnx.checker.check_model(model)
    save(model, name)


def network():
    """Two Keras layers and a softmax."""
    random = np.random.default_rng(0)
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input((4,)),
            tf.keras.layers.Dense(16, activation="relu"),
            tf.keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.set_weights([random.normal(0, 0.4, part.shape) for part in model.get_weights()])
    signature = [tf.TensorSpec((None, 4), tf.float32, name="features")]
    convert(tf.function(lambda features: model(features)), signature, "tf2onnx-network")


def images():
    random = np.random.default_rng(1)
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input((8, 8, 3)),
            tf.keras.layers.Conv2D(4, 3, activation="relu"),
            tf.keras.layers.BatchNormalization(),
            tf.keras.layers.GlobalAveragePooling2D(),
            tf.keras.layers.Dense(2),
        ]
    )
    model.set_weights([abs(random.normal(0, 0.4, part.shape)) for part in model.get_weights()])
    signature = [tf.TensorSpec((None, 8, 8, 3), tf.float32, name="image")]
    convert(tf.function(lambda image: model(image)), signature, "tf2onnx-images")


def function():
    """Two inputs and two named outputs."""

    @tf.function
    def both(a, b):
        total = tf.reduce_sum(a, axis=1, keepdims=True) + tf.cast(b, tf.float32)
        return {"total": total, "is_large": total > 10.0}

    signature = [
        tf.TensorSpec((None, 2), tf.float32, name="a"),
        tf.TensorSpec((None, 1), tf.int32, name="b"),
    ]
    convert(both, signature, "tf2onnx-function")


if __name__ == "__main__":
    network()
    images()
    function()
