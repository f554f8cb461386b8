"""Clients that parse versions as integers: Triton's for Python, and TensorFlow Serving's REST API.

Usage: versions.py HOST:PORT. The model is `wine`, from a repository with the folder `1`. Fails at the first response
of another version.
"""

import json
import sys
import urllib.error
import urllib.request

import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

ROW = [[14.23, 1.71, 2.43, 15.6, 127, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065]]


def triton(url):
    with http.InferenceServerClient(url) as client:
        named = {"model_version": "1"}
        assert client.is_model_ready("wine", **named)
        assert not client.is_model_ready("wine", model_version="2")
        assert client.get_model_metadata("wine", **named)["versions"] == ["1"]
        assert client.get_model_config("wine", **named)["name"] == "wine"
        assert [entry["version"] for entry in client.get_model_repository_index()] == ["1"]
        client.load_model("wine")
        tensor = http.InferInput("X", [1, 13], "FP32")
        tensor.set_data_from_numpy(np.array(ROW, np.float32))
        result = client.infer("wine", [tensor], **named)
        assert result.as_numpy("output_label").tolist() == [0]
        # The format of perf_analyzer.
        assert int(result.get_response()["model_version"]) == 1
        stats = client.get_inference_statistics("wine", **named)["model_stats"]
        assert [int(one["version"]) for one in stats] == [1] and stats[0]["inference_count"] == 1, stats
        try:
            client.infer("wine", [tensor], model_version="2")
        except InferenceServerException as error:
            assert error.status() == "404", error
            assert '"2"' in error.message() and '"1"' in error.message(), error
        else:
            raise AssertionError("version 2 was answered")


def call(url, body=None):
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def tensorflow(url):
    model = f"http://{url}/v1/models/wine"
    rows = {"instances": ROW}
    _, status = call(model)
    # An int64 in the JSON format of protocol buffers.
    version = int(status["model_version_status"][0]["version"])
    assert version == 1, status
    assert call(f"{model}/versions/{version}") == (200, status)
    _, metadata = call(f"{model}/versions/{version}/metadata")
    assert int(metadata["model_spec"]["version"]) == version, metadata
    answer = call(f"{model}:predict", rows)
    assert answer[0] == 200, answer
    assert call(f"{model}/versions/{version}:predict", rows) == answer
    code, wrong = call(f"{model}/versions/2:predict", rows)
    assert code == 404 and '"2"' in wrong["error"] and '"1"' in wrong["error"], wrong
    code, wrong = call(f"{model}/labels/stable:predict", rows)
    assert code == 404 and '"stable"' in wrong["error"] and '"1"' in wrong["error"], wrong


triton(sys.argv[1])
tensorflow(sys.argv[1])
print("ok")
