"""ONNX Runtime in a Python process, for `make bench-growth`: `growth.py MODEL NUMBERS`.

Each line of the standard input is a command, each line of the output its result:

- `json ROWS CALLS`: median time in microseconds to parse a body, run the model, and format the response.
- `numpy ROWS CALLS`: the same for the bytes of a tensor, and for the bytes of the first output.
- `load COUNT`: loads the model until there are COUNT sessions, and runs each once.
- `ready`: nothing.
"""

import json
import statistics
import sys
import time

import numpy as np
import onnxruntime


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def in_json(run, name, body):
    rows = json.loads(body)["features"]
    outputs = run(None, {name: np.array(rows, dtype=np.float32)})
    return json.dumps({"prediction": outputs[0].tolist()})


def in_numpy(run, name, body):
    rows = np.frombuffer(body, dtype=np.float32).reshape(-1, 13)
    return run(None, {name: rows})[0].tobytes()


def main():
    model, numbers = sys.argv[1:]
    row = np.fromfile(numbers, dtype=np.float32)
    sessions = [session(model)]
    name = sessions[0].get_inputs()[0].name
    for line in sys.stdin:
        command, *sizes = line.split()
        result = 0
        if command == "load":
            sessions += [session(model) for _ in range(int(sizes[0]) - len(sessions))]
            for one in sessions:
                one.run(None, {name: row.reshape(1, -1)})
        elif command in ("json", "numpy"):
            rows, calls = map(int, sizes)
            many = np.tile(row, (rows, 1))
            if command == "json":
                call, body = in_json, json.dumps({"features": many.tolist()})
            else:
                call, body = in_numpy, many.tobytes()
            times = []
            for _ in range(calls):
                started = time.perf_counter()
                call(sessions[0].run, name, body)
                times.append(time.perf_counter() - started)
            result = statistics.median(times) * 1e6
        print(result, flush=True)


main()
