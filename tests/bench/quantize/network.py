"""Builder of the models that the programs of this folder compare."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Network:
    """A graph under construction, with given or random weights."""

    def __init__(self, name):
        self.name = name
        self.random = np.random.default_rng(sum(name.encode()))
        self.weights = []
        self.nodes = []
        self.last = 0

    def weight(self, *shape, scale=None):
        fan = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
        values = self.random.standard_normal(shape, dtype=np.float32) * np.float32(scale or fan**-0.5)
        return self.constant(values)

    def constant(self, values, name=None):
        name = name or f"weight.{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def node(self, operator, *inputs, **attributes):
        self.last += 1
        output = f"value.{self.last}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def dense(self, value, rows, columns):
        product = self.node("MatMul", value, self.weight(rows, columns))
        return self.node("Add", product, self.weight(columns, scale=0.1))

    def normal(self, value, width):
        return self.node("LayerNormalization", value, self.constant(np.ones(width, np.float32)), self.weight(width, scale=0.01), axis=-1)

    def convolution(self, value, inside, outside, size, stride=1):
        pads = [size // 2] * 4
        weight = self.weight(outside, inside, size, size)
        return self.node("Conv", value, weight, self.weight(outside, scale=0.1), strides=[stride] * 2, pads=pads)

    def save(self, folder, inputs, value, shape):
        self.nodes.append(helper.make_node("Identity", [value], ["y"]))
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, self.name, inputs, [output], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        file = folder / f"{self.name}.onnx"
        onnx.save(model, file)
        return file
