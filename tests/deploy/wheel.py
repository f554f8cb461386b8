"""Installs the wheel in a new environment, and runs its programs there.

    wheel.py WHEEL

The environment has nothing but the wheel and what pip fetches for it. modelctl checks a model with the installed package
onnxruntime, and the sidecar serves it. An import of that package is an error here: the programs use its library alone.
"""

import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROWS = 9


def main():
    wheel = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="wheel-test-") as scratch:
        folder = pathlib.Path(scratch)
        venv.create(folder / "venv", with_pip=True)
        programs = folder / "venv/bin"
        environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": scratch}
        pip = [programs / "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", wheel]
        subprocess.run(pip, check=True, env=environment | {k: v for k, v in os.environ.items() if k.startswith("PIP_")})
        (package,) = (folder / "venv/lib").glob("python*/site-packages/onnxruntime/__init__.py")
        package.write_text("raise ImportError('a program imports onnxruntime, which delays its start')\n")
        for program in ("model-sidecar", "modelctl", "lab"):
            subprocess.run([program, "--help"], check=True, env=environment, stdout=subprocess.DEVNULL)
            print(f"ok: {program} --help", flush=True)

        model = ROOT / "tests/models/wine-v1.onnx"
        for command, expected in (
            (["check", model], "X FP32 [-1, 13]"),
            (["optimize", model, "-o", folder / "out"], "outputs agree"),
        ):
            done = subprocess.run(["modelctl", *command], env=environment, check=False, capture_output=True, text=True)
            if done.returncode != 0 or expected not in done.stdout:
                sys.exit(f"modelctl {command[0]}: {done.stdout}{done.stderr}")
            print(f"ok: modelctl {command[0]}", flush=True)

        serving = environment | {"MODEL_URI": f"file://{model}", "MODEL_SOCKET": f"{scratch}/socket", "MODEL_PORT": "0",
                                 "MODEL_CACHE_DIR": f"{scratch}/cache", "MODEL_METRICS": "none"}
        process = subprocess.Popen(["model-sidecar"], env=serving, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        try:
            log = []
            for line in process.stdout:
                log.append(line)
                if " ready " in line:
                    break
            else:
                sys.exit(f"the sidecar did not start: {''.join(log)}")
            wine = json.loads((ROOT / "tests/models/wine.json").read_text())
            connection = http.client.HTTPConnection("localhost")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(f"{scratch}/socket")
            connection.request("POST", "/predict", json.dumps({"features": wine["rows"][:ROWS]}))
            answer = json.load(connection.getresponse())
            if answer.get("prediction") != wine["v1"]["labels"][:ROWS]:
                sys.exit(f"the sidecar: {answer}")
            print("ok: model-sidecar answers as scikit-learn does", flush=True)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
