"""Starts the programs of Model Sidecar with the ONNX Runtime that is installed next to them.

The package onnxruntime is located and not imported: an import takes hundreds of milliseconds.
"""

import importlib.util
import os
import pathlib
import sys

_BIN = pathlib.Path(__file__).parent / "bin"


def _library():
    """Path of ONNX Runtime's library in the installed package."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        sys.exit("cannot find the package onnxruntime; install it: pip install 'onnxruntime>=1.28'")
    folder = pathlib.Path(spec.origin).parent / "capi"
    libraries = sorted(folder.glob("libonnxruntime.so.1.*"))
    if not libraries:
        sys.exit(f"cannot find libonnxruntime.so.1.* in {folder}; set ORT_DYLIB_PATH")
    return str(libraries[-1])


def _run(program):
    if "ORT_DYLIB_PATH" not in os.environ:
        os.environ["ORT_DYLIB_PATH"] = _library()
    # From 1.29 on, Microsoft's library reports usage unless this is set.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    path = str(_BIN / program)
    os.execv(path, [path, *sys.argv[1:]])


def sidecar():
    _run("model-sidecar")


def modelctl():
    _run("modelctl")


def lab():
    _run("lab")
