"""Triton's Python client against the sidecar: blocking and asyncio, in JSON and in binary.

Usage: triton.py HOST:PORT. The models are `identity-…` for each datatype, and `names`, scikit-learn's classifier with
named classes. Fails at the first unexpected response.
"""

import asyncio
import sys

import ml_dtypes
import numpy as np
import tritonclient.http as http
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

# Datatype in ONNX and in the protocol, and extreme values.
CASES = [
    ("bool", "BOOL", np.array([[True, False, True]])),
    ("uint8", "UINT8", np.array([[0, 1, 255]], np.uint8)),
    ("uint16", "UINT16", np.array([[0, 65535]], np.uint16)),
    ("uint32", "UINT32", np.array([[0, 2**32 - 1]], np.uint32)),
    ("uint64", "UINT64", np.array([[0, 2**64 - 1]], np.uint64)),
    ("int8", "INT8", np.array([[-128, 127]], np.int8)),
    ("int16", "INT16", np.array([[-(2**15), 2**15 - 1]], np.int16)),
    ("int32", "INT32", np.array([[-(2**31), 2**31 - 1]], np.int32)),
    ("int64", "INT64", np.array([[-(2**63), 2**63 - 1]], np.int64)),
    ("float16", "FP16", np.array([[0.1, -65504, 6e-8]], np.float16)),
    ("bfloat16", "BF16", np.array([[0.1, -3e38, 1e-40]], ml_dtypes.bfloat16)),
    ("float", "FP32", np.array([[0.1, -3.4e38, 1e-45], [1 / 3, 16777217, -0.0]], np.float32)),
    ("double", "FP64", np.array([[0.1, -1.7e308, 5e-324]], np.float64)),
    ("string", "BYTES", np.array([["", "grüße 🍷".encode()]], dtype=np.object_)),
    ("float", "FP32", np.zeros((0, 3), np.float32)),
    # Large enough for several reads.
    ("float", "FP32", np.random.default_rng(7).standard_normal((3, 224 * 224), np.float32)),
]

# The client sends these in binary only.
BINARY_ONLY = ("FP16", "BF16")

ROW = np.array(
    [[14.23, 1.71, 2.43, 15.6, 127, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065]], np.float32
)


def elements(array):
    """Bytes of an array, so that -0 and 0 differ."""
    if array.dtype == np.object_:
        return [each if isinstance(each, bytes) else each.encode() for each in array.ravel()]
    return array.tobytes()


def same(given, got, what):
    assert got is not None, f"{what}: no output"
    assert given.shape == got.shape, f"{what}: {given.shape} became {got.shape}"
    assert elements(given) == elements(got.astype(given.dtype)), f"{what}: {given} became {got}"


def forms(client):
    """Arguments and check of a call for each datatype and each format of inputs and outputs."""
    for name, datatype, array in CASES:
        for binary_in in (True, False):
            for binary_out in (True, False, None):
                if datatype in BINARY_ONLY and not (binary_in and binary_out is not False):
                    continue
                tensor = client.InferInput("x", list(array.shape), datatype)
                tensor.set_data_from_numpy(array, binary_data=binary_in)
                # Without requested outputs the client requests all of them in binary.
                outputs = None
                if binary_out is not None:
                    outputs = [client.InferRequestedOutput("y", binary_data=binary_out)]
                arguments = {
                    "model_name": f"identity-{name}",
                    "inputs": [tensor],
                    "outputs": outputs,
                    "request_id": "7",
                    # Parameters that the sidecar ignores.
                    "sequence_id": 3,
                    "sequence_start": True,
                    "priority": 1,
                    "timeout": 30_000_000,
                    "parameters": {"mine": "own"},
                }
                what = f"{datatype} in {binary_in}, out {binary_out}"
                yield arguments, (lambda result, array=array, what=what: check(result, array, what))


def check(result, array, what):
    same(array, result.as_numpy("y"), what)
    response = result.get_response()
    assert response["id"] == "7", response
    assert response["model_name"].startswith("identity-"), response


def classes(client, binary):
    tensor = client.InferInput("X", [1, 13], "FP32")
    tensor.set_data_from_numpy(ROW, binary_data=True)
    wanted = client.InferRequestedOutput("output_probability", binary_data=binary, class_count=2)
    return {"model_name": "names", "inputs": [tensor], "outputs": [wanted]}


def check_classes(result):
    top = result.as_numpy("output_probability")
    assert top.shape == (1, 2), top.shape
    parts = [text.decode().split(":") if isinstance(text, bytes) else text.split(":") for text in top[0]]
    values = [float(value) for value, _, _ in parts]
    assert values[0] > 0.9 > values[1] >= 0, parts
    assert parts[0][1:] == ["0", "class_0"], parts


def check_about(server, model, config, index, loaded):
    assert server["name"] == "model-sidecar", server
    for extension in ("binary_tensor_data", "classification", "model_configuration", "model_repository"):
        assert extension in server["extensions"], server
    assert model["platform"] == "onnx_onnxv1", model
    assert model["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 13]}], model
    assert config["name"] == "names" and config["max_batch_size"] == 0, config
    assert config["input"] == [{"name": "X", "data_type": "TYPE_FP32", "dims": [-1, 13], "optional": False}], config
    outputs = [(output["name"], output["data_type"], output["dims"]) for output in config["output"]]
    assert outputs == [("output_label", "TYPE_STRING", [-1]), ("output_probability", "TYPE_FP32", [-1, -1])], config
    states = {entry["name"]: entry["state"] for entry in index}
    assert states["names"] == "READY", index
    assert loaded is None, loaded


def refused():
    tensor = http.InferInput("X", [1, 12], "FP32")
    tensor.set_data_from_numpy(ROW[:, :12], binary_data=True)
    return {"model_name": "names", "inputs": [tensor]}


def check_refusal(error):
    assert error.status() == "400", error
    assert 'input "X" takes FP32 [-1, 13]' in error.message(), error


def blocking(url):
    with http.InferenceServerClient(url, concurrency=4) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("names")
        assert not client.is_model_ready("none")
        server = client.get_server_metadata()
        check_about(
            server,
            client.get_model_metadata("names"),
            client.get_model_config("names"),
            client.get_model_repository_index(),
            client.load_model("names"),
        )
        if "statistics" in server["extensions"]:
            stats = client.get_inference_statistics("names")
            assert stats["model_stats"][0]["name"] == "names", stats
        waiting = []
        for arguments, check_result in forms(http):
            check_result(client.infer(**arguments))
            waiting.append((client.async_infer(**arguments), check_result))
            if len(waiting) == 4:
                for pending, check_pending in waiting:
                    check_pending(pending.get_result())
                waiting = []
        for binary in (True, False):
            check_classes(client.infer(**classes(http, binary)))
        try:
            client.infer(**refused())
        except InferenceServerException as error:
            check_refusal(error)
        else:
            raise AssertionError("a row of 12 was taken")


async def in_asyncio(url):
    async with aio.InferenceServerClient(url) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("names")
        check_about(
            await client.get_server_metadata(),
            await client.get_model_metadata("names"),
            await client.get_model_config("names"),
            await client.get_model_repository_index(),
            await client.load_model("names"),
        )

        async def one(arguments, check_result):
            check_result(await client.infer(**arguments))

        await asyncio.gather(*(one(*form) for form in forms(aio)))
        for binary in (True, False):
            check_classes(await client.infer(**classes(aio, binary)))
        try:
            await client.infer(**refused())
        except InferenceServerException as error:
            check_refusal(error)
        else:
            raise AssertionError("a row of 12 was taken")


blocking(sys.argv[1])
asyncio.run(in_asyncio(sys.argv[1]))
print("ok")
