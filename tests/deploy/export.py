"""Runs the export scripts of layer/examples/export, and compares the sidecar with the original models.

    export.py SCRIPT...

Each script exports its model to a file. The staged sidecar serves the file, and its predictions for every row of the
wine data must equal those of the original library.
"""

import http.client
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy
from sklearn.datasets import load_wine

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIDECAR = ROOT / "target/stage/layer/extensions/model-sidecar"


def serve(model, folder, rows):
    """Response of the sidecar to these rows."""
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
            return request(folder / "socket", rows)
        finally:
            process.terminate()


def request(socket_path, rows):
    import socket

    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(socket_path))
    connection.request("POST", "/predict", json.dumps({"features": rows.tolist()}))
    response = connection.getresponse()
    answer = json.load(response)
    if response.status != 200:
        sys.exit(f"status {response.status}: {answer}")
    return answer


def main():
    rows = load_wine().data.astype(numpy.float32)
    for script in map(pathlib.Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory(prefix="export-test-") as scratch:
            folder = pathlib.Path(scratch)
            model = folder / "model.onnx"
            subprocess.run([sys.executable, script, model], check=True, stdout=subprocess.DEVNULL)
            specification = importlib.util.spec_from_file_location(script.stem, script)
            module = importlib.util.module_from_spec(specification)
            specification.loader.exec_module(module)
            expected = module.predict(rows)
            given = numpy.array(serve(model, folder, rows)["prediction"])
            if not (numpy.array_equal(given, expected) if expected.dtype.kind == "i" else numpy.allclose(given, expected, atol=1e-4)):
                sys.exit(f"{script}: the sidecar's predictions differ from the original model's")
            print(f"ok: {script.name}: {len(rows)} rows as the original model", flush=True)


if __name__ == "__main__":
    main()
