"""Python's standard library against the sidecar, on port or socket: `standard.py PORT|PATH`."""

import http.client
import json
import socket
import struct
import sys

ROW = [14.23, 1.71, 2.43, 15.6, 127, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065]


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


where = sys.argv[1]
connection = http.client.HTTPConnection("127.0.0.1", int(where)) if where.isdigit() else Unix(where)


def call(path, body, headers=None):
    connection.request("POST", path, body, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content
    return answer.headers, content


_, content = call("/models/names/predict", json.dumps({"features": [ROW]}))
assert json.loads(content)["prediction"] == ["class_0"], content

tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3]}
_, content = call("/v2/models/identity-float/infer", json.dumps({"inputs": [tensor | {"data": [0.5, None, -2]}]}))
assert json.loads(content)["outputs"][0]["data"] == [0.5, None, -2], content

numbers = struct.pack("<3f", 0.1, float("inf"), -0.0)
size = {"parameters": {"binary_data_size": len(numbers)}}
text = json.dumps({"inputs": [tensor | size], "parameters": {"binary_data_output": True}}).encode()
headers, content = call(
    "/v2/models/identity-float/infer", text + numbers, {"Inference-Header-Content-Length": str(len(text))}
)
assert headers["Content-Type"] == "application/octet-stream", headers
length = int(headers["Inference-Header-Content-Length"])
output = json.loads(content[:length])["outputs"][0]
assert output["parameters"] == {"binary_data_size": 12} and "data" not in output, output
assert content[length:] == numbers, content

# A raw tensor with one free dimension in addition to the rows.
headers, content = call("/v2/models/identity-float/infer", numbers, {"Inference-Header-Content-Length": "0"})
length = int(headers["Inference-Header-Content-Length"])
assert json.loads(content[:length])["outputs"][0]["shape"] == [1, 3], content
assert content[length:] == numbers, content
print("ok")
