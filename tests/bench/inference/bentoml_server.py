"""A model served by BentoML in the usual way: `bentoml serve bentoml_server:Wine`, MODELS names the folder."""

import os

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=int(os.environ.get("WORKERS", "1")), traffic={"timeout": 60})
class Wine:
    def __init__(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(
            os.path.join(os.environ["MODELS"], "small.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.name = self.session.get_inputs()[0].name

    @bentoml.api
    def predict(self, features: list[list[float]]) -> dict:
        outputs = self.session.run(None, {self.name: np.array(features, dtype=np.float32)})
        return {"prediction": outputs[0].tolist()}
