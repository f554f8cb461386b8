"""Records the outputs of the networks in the PyPI package silero-vad by ONNX Runtime in Python.

The networks detect speech in pieces of 32 ms, and the caller passes their state from each call to
the next. PyTorch's current exporter, based on torch.export, exported one of them, and its previous
exporter the other. Run `make fixtures` first, which downloads them.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / "target" / "fixtures" / "silero"
NAMES = ["silero_vad_op18_ifless", "silero_vad_16k_op15"]
STEPS = 3
SAMPLES = 576


def main():
    time = np.arange(STEPS * SAMPLES) / 16_000
    voice = sum(np.sin(2 * np.pi * 140 * tone * time) / tone for tone in range(1, 9))
    sound = np.round(voice * np.sin(2 * np.pi * 5 * time) / 4, 3).astype(np.float32)
    steps = sound.reshape(STEPS, 1, SAMPLES)
    models = {}
    for name in NAMES:
        session = onnxruntime.InferenceSession(str(FOLDER / f"{name}.onnx"))
        state, outputs = np.zeros((2, 1, 128), np.float32), []
        for step in steps:
            feeds = {"input": step, "state": state, "sr": np.array(16_000, np.int64)}
            output, state = session.run(["output", "stateN"], feeds)
            outputs.append(output.ravel().tolist()[0])
        models[name] = {"outputs": outputs, "state": state.ravel().tolist()}
        print(name, outputs)
    sound = [[float(str(value)) for value in step[0]] for step in steps]
    text = json.dumps({"sound": sound, "models": models}, separators=(",", ":"))
    (HERE / "silero.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
