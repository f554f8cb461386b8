"""A model served by FastAPI with orjson: `uvicorn fastapi_server:app` with uvloop, MODELS names the folder."""

import os

import numpy as np
import onnxruntime as ort
import orjson
from fastapi import FastAPI, Request, Response

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(
    os.path.join(os.environ["MODELS"], "small.onnx"), options, providers=["CPUExecutionProvider"]
)
name = session.get_inputs()[0].name
app = FastAPI()


@app.post("/predict")
async def predict(request: Request):
    rows = orjson.loads(await request.body())["features"]
    outputs = session.run(None, {name: np.array(rows, dtype=np.float32)})
    answer = orjson.dumps({"prediction": outputs[0]}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(answer, media_type="application/json")
