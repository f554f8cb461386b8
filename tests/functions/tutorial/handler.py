"""A model behind Lambda as tutorials have it. The download with boto3 and the load with onnxruntime
happen while the module is imported, thus once in an execution environment."""

import os

import boto3
import numpy as np
import onnxruntime as ort

MODEL = "/tmp/model.onnx"

if not os.path.exists(MODEL):
    s3 = boto3.client("s3")
    s3.download_file(os.environ["MODEL_BUCKET"], os.environ["MODEL_KEY"], MODEL)
session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


def main(event, context):
    rows = np.array([event["features"]], dtype=np.float32)
    outputs = session.run(None, {session.get_inputs()[0].name: rows})
    return {"prediction": outputs[0].tolist()}
