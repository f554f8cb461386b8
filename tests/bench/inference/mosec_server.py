"""A model served by mosec in the usual way: `python mosec_server.py --port PORT`, MODELS names the folder."""

import os

import numpy as np
import onnxruntime as ort
from mosec import Runtime, Server, Worker


class Wine(Worker):
    def __init__(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(
            os.path.join(os.environ["MODELS"], "small.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.name = self.session.get_inputs()[0].name

    def forward(self, data):
        outputs = self.session.run(None, {self.name: np.array(data["features"], dtype=np.float32)})
        return {"prediction": outputs[0].tolist()}


if __name__ == "__main__":
    server = Server()
    server.register_runtime({"/predict": [Runtime(Wine, num=int(os.environ.get("WORKERS", "1")), timeout=60)]})
    server.run()
