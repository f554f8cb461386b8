"""Compares `modelctl optimize --quantize` with onnxruntime.quantization (`make bench-quantize`).

`compare.py MODELCTL REAL FOLDER` quantizes models by both tools. Three models with random weights
are built in FOLDER. They have the shapes of MiniLM, of ResNet-18 and of a text recognizer (convolutions and a
bidirectional LSTM). The other models are real. Their files are in REAL, from packages: `published.py` and `carried.py`.

Sizes and differences of outputs from the FP32 model's are printed. ONNX Runtime in Python runs all files. *8 bits* and
*7 bits* are the tool in Python with the range of its integers; modelctl's `int8-dynamic` has seven bits. A boosted
forest, and a model whose weights are all in branches of `If`, must stay as they are.

Exits with 1 if a file of modelctl is more than 3 % larger than Python's, or its mean difference is larger. Where
the tool in Python fails, a file of modelctl must be smaller than the original. Its mean difference must be at most 2 %
of the largest output.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.shape_inference import InferenceError
from onnxruntime.quantization import QuantType, quantize_dynamic

import carried
import published
from network import Network

ROWS = 8
# Maximum mean difference where the tool in Python fails, of the largest output.
WITHOUT_PYTHON = 0.02
MODELS = Path(__file__).resolve().parents[2] / "models"


def minilm(folder):
    """Embeddings of 30,522 words and six layers of attention, 384 wide, as sentence-transformers' MiniLM-L6."""
    words, width, heads = 30522, 384, 12
    net = Network("minilm-like")
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 32])
    value = net.normal(net.node("Gather", net.weight(words, width, scale=0.05), "ids"), width)
    shape = net.constant(np.array([0, 0, heads, width // heads], np.int64))
    back = net.constant(np.array([0, 0, width], np.int64))
    scale = net.constant(np.float32((width // heads) ** -0.5))
    for _ in range(6):
        def split(order):
            part = net.node("Reshape", net.dense(value, width, width), shape)
            return net.node("Transpose", part, perm=order)

        query, key, content = split([0, 2, 1, 3]), split([0, 2, 3, 1]), split([0, 2, 1, 3])
        scores = net.node("Softmax", net.node("Mul", net.node("MatMul", query, key), scale), axis=-1)
        mixed = net.node("Transpose", net.node("MatMul", scores, content), perm=[0, 2, 1, 3])
        attended = net.dense(net.node("Reshape", mixed, back), width, width)
        value = net.normal(net.node("Add", value, attended), width)
        wide = net.node("Relu", net.dense(value, width, 4 * width))
        value = net.normal(net.node("Add", value, net.dense(wide, 4 * width, width)), width)
    file = net.save(folder, [ids], net.node("ReduceMean", value, axes=[1], keepdims=0), ["batch", width])
    random = np.random.default_rng(1)
    return file, {"ids": random.integers(0, words, (ROWS, 32), dtype=np.int64)}


def resnet(folder):
    """The convolutions of ResNet-18, on images of 64 by 64."""
    net = Network("resnet-like")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 64, 64])
    value = net.node("Relu", net.convolution("image", 3, 64, 7, 2))
    value = net.node("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    inside = 64
    for outside in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if outside != inside else 1
            inner = net.node("Relu", net.convolution(value, inside, outside, 3, stride))
            inner = net.convolution(inner, outside, outside, 3)
            if outside != inside:
                value = net.convolution(value, inside, outside, 1, stride)
            value = net.node("Relu", net.node("Add", value, inner))
            inside = outside
    pooled = net.node("Flatten", net.node("GlobalAveragePool", value))
    value = net.node("Gemm", pooled, net.weight(1000, 512, scale=0.05), net.weight(1000, scale=0.1), transB=1)
    file = net.save(folder, [image], value, ["batch", 1000])
    random = np.random.default_rng(2)
    return file, {"image": random.standard_normal((ROWS, 3, 64, 64), dtype=np.float32)}


def crnn(folder):
    """Convolutions and a bidirectional LSTM over the columns of an image, as in text recognition."""
    net = Network("crnn-like")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 32, 100])
    value, inside = "image", 1
    for outside in (64, 128, 256, 512):
        value = net.node("Relu", net.convolution(value, inside, outside, 3))
        value = net.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 1 if outside > 128 else 2])
        inside = outside
    value = net.node("ReduceMean", value, axes=[2], keepdims=0)
    value = net.node("Transpose", value, perm=[2, 0, 1])
    hidden = 256
    weights = [net.weight(2, 4 * hidden, 512, scale=0.05), net.weight(2, 4 * hidden, hidden, scale=0.05)]
    value = net.node("LSTM", value, *weights, net.weight(2, 8 * hidden, scale=0.05), direction="bidirectional", hidden_size=hidden)
    value = net.node("Transpose", value, perm=[0, 2, 1, 3])
    value = net.node("Reshape", value, net.constant(np.array([0, 0, 2 * hidden], np.int64)))
    file = net.save(folder, [image], net.dense(value, 2 * hidden, 37), ["steps", "batch", 37])
    random = np.random.default_rng(3)
    return file, {"image": random.standard_normal((ROWS, 1, 32, 100), dtype=np.float32)}


def run(file, inputs):
    """All outputs, in one row."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return np.concatenate([output.ravel() for output in session.run(None, inputs)])


def difference(expected, found):
    error = np.abs(expected.astype(np.float64) - found)
    return error.max(), error.mean()


def quantized(modelctl, file, kind, folder):
    output = folder / kind
    command = [modelctl, "optimize", file, "-o", output, "--quantize", kind, "--force"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return output / file.name


def by_python(file, bits, folder):
    output = folder / f"python-{bits}" / file.name
    output.parent.mkdir(exist_ok=True)
    quantize_dynamic(
        file,
        output,
        op_types_to_quantize=["MatMul", "Gemm", "Conv", "Gather", "LSTM"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        reduce_range=bits == 7,
    )
    return output


def compared(modelctl, file, inputs, folder):
    """Prints the rows of a model. Returns `True` if modelctl is as good as the tool in Python."""
    expected = run(file, inputs)
    print(f"{file.stem:<24} {'fp32':<21} {file.stat().st_size:>11}")
    found = {}

    def measure(tool, output):
        size = output.stat().st_size
        largest, mean = difference(expected, run(output, inputs))
        found[tool] = size, mean
        print(f"{file.stem:<24} {tool:<21} {size:>11} {largest:>9.2e} {mean:>9.2e}", flush=True)

    for bits in (8, 7):
        tool = f"python {bits} bits"
        try:
            output = by_python(file, bits, folder)
        except (InferenceError, ValueError) as error:
            found[tool] = file.stat().st_size / 1.03, WITHOUT_PYTHON * np.abs(expected).max()
            print(f"{file.stem:<24} {tool:<21} fails: {str(error).splitlines()[0][:70]}")
        else:
            measure(tool, output)
    for kind in ("int8", "fp16", "int8-dynamic"):
        measure(f"modelctl {kind}", quantized(modelctl, file, kind, folder))
    pairs = (("modelctl int8", "python 8 bits"), ("modelctl int8-dynamic", "python 7 bits"))
    pairs = [(found[ours], found[theirs]) for ours, theirs in pairs]
    return all(ours[0] <= 1.03 * theirs[0] and ours[1] <= theirs[1] for ours, theirs in pairs)


def is_refused(modelctl, file, reason, folder):
    """Returns `True` if the model stays as it is, for this reason."""
    command = [modelctl, "optimize", file, "-o", folder / "refused", "--quantize", "int8", "--force"]
    ran = subprocess.run(command, capture_output=True, text=True)
    print(f"{file.stem}: {ran.stderr.strip()}")
    return ran.returncode != 0 and "nothing is written" in ran.stderr and reason in ran.stderr


def main():
    modelctl, real, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    models = [build(folder) for build in (minilm, resnet, crnn)] + [published.embedding(real / "minilm", folder)]
    models += carried.models(real)
    print(f"{'model':<24} {'tool':<21} {'bytes':>11} {'largest':>9} {'mean':>9}")
    wrong = [file.stem for file, inputs in models if not compared(modelctl, file, inputs, folder)]
    if wrong:
        print(f"larger or less exact than Python's: {', '.join(wrong)}")
    forest = MODELS / "zoo" / "xgboost-classifier.onnx"
    refused = [(forest, "TreeEnsembleClassifier"), (carried.branches(real), "it is in a subgraph")]
    refused = [is_refused(modelctl, file, reason, folder) for file, reason in refused]
    sys.exit(0 if all(refused) and not wrong else 1)


if __name__ == "__main__":
    main()
