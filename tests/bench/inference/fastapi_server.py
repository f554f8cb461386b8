"""A model served by FastAPI in the usual way: `uvicorn fastapi_server:app`, MODELS names the folder."""

import os

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(
    os.path.join(os.environ["MODELS"], "small.onnx"), options, providers=["CPUExecutionProvider"]
)
name = session.get_inputs()[0].name
app = FastAPI()


class Rows(BaseModel):
    features: list[list[float]]


@app.post("/predict")
async def predict(rows: Rows):
    outputs = session.run(None, {name: np.array(rows.features, dtype=np.float32)})
    return {"prediction": outputs[0].tolist()}
