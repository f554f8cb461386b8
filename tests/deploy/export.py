"""Runs the export scripts of layer/examples/export, and compares the sidecar with the original models.

    export.py COMMAND...

A command is a script and its arguments before the file. Each script exports its model to a file. The staged sidecar
serves the file. Its predictions must equal those of the original model, for all rows of the script and for the first
row alone.
"""

import contextlib
import http.client
import json
import os
import pathlib
import runpy
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIDECAR = ROOT / "target/stage/layer/extensions/model-sidecar"


@contextlib.contextmanager
def serve(model, folder):
    """Socket of a sidecar that serves the model."""
    environment = {
        "PATH": os.environ["PATH"],
        "MODEL_URI": f"file://{model}",
        "MODEL_SOCKET": str(folder / "socket"),
        "MODEL_CACHE_DIR": str(folder / "cache"),
        "MODEL_PORT": "0",
        "MODEL_METRICS": "none",
    }
    with subprocess.Popen([SIDECAR], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            log = []
            for line in process.stdout:
                log.append(line)
                if " ready " in line:
                    break
            else:
                sys.exit(f"the sidecar did not load {model}:\n{''.join(log)}")
            yield folder / "socket"
        finally:
            process.terminate()


def request(socket_path, features):
    """Predictions of the sidecar for an array of rows, or for named columns."""
    columns = isinstance(features, Mapping)
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(socket_path))
    values = {name: column.tolist() for name, column in features.items()} if columns else features.tolist()
    connection.request("POST", "/predict", json.dumps({"features": values}))
    response = connection.getresponse()
    answer = json.load(response)
    if response.status != 200:
        sys.exit(f"status {response.status}: {answer}")
    return numpy.array(answer["prediction"])


def equal(given, expected):
    return numpy.array_equal(given, expected) if expected.dtype.kind == "i" else numpy.allclose(given, expected, atol=1e-4)


def main():
    for command in map(shlex.split, sys.argv[1:]):
        script = pathlib.Path(command[0])
        with tempfile.TemporaryDirectory(prefix="export-test-") as scratch:
            folder = pathlib.Path(scratch)
            model = folder / "model.onnx"
            sys.argv = [*command, str(model)]
            with open(os.devnull, "w") as devnull, contextlib.redirect_stdout(devnull):
                example = runpy.run_path(str(script), run_name="__main__")
            rows, predict = example["rows"], example["predict"]
            features = example.get("tokenize", numpy.asarray)
            expected = predict(rows)
            with serve(model, folder) as socket_path:
                for count in (len(rows), 1):
                    if not equal(request(socket_path, features(rows[:count])), expected[:count]):
                        sys.exit(f"{script}: the sidecar's predictions for {count} rows differ from the original model's")
            print(f"ok: {script.name}: {len(rows)} rows as the original model", flush=True)


if __name__ == "__main__":
    main()
