"""Creates the zoo's models of PyTorch's exporters; zoo.py runs them.

Needs its own environment, since PyTorch takes gigabytes: see zoo-pytorch-requirements.txt. All but one come from the
current exporter with its defaults, which writes weights of any size to an external file.
"""

import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

warnings.filterwarnings("ignore")

ZOO = Path(__file__).resolve().parent / "zoo"


def export(name, model, arguments, **options):
    torch.manual_seed(0)
    file = ZOO / f"pytorch-{name}.onnx"
    torch.onnx.export(model().eval(), arguments, str(file), verbose=False, **options)
    exported = onnx.load(str(file), load_external_data=False)
    without_traces(exported)
    file.write_bytes(exported.SerializeToString(deterministic=True))
    data = file.with_name(file.name + ".data")
    if data.exists() and not data.stat().st_size:
        data.unlink()


def without_traces(model):
    """Removes the source locations of nodes, which contain paths of this machine."""
    for graph in [model.graph, *model.functions]:
        nodes = list(graph.node)
        while nodes:
            node = nodes.pop()
            kept = [each for each in node.metadata_props if "stack_trace" not in each.key]
            del node.metadata_props[:]
            node.metadata_props.extend(kept)
            nodes += [inner for attribute in node.attribute for inner in attribute.g.node]


class Network(nn.Module):
    """Layers with a normalisation, and a softmax."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)

    def forward(self, features):
        hidden = torch.relu(self.norm(self.first(features)))
        return torch.softmax(self.last(hidden), -1)


class Half(Network):
    """The same in half precision."""

    def __init__(self):
        super().__init__()
        self.half()


class Images(nn.Module):
    """A convolution with two named outputs."""

    def __init__(self):
        super().__init__()
        self.filters, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, image):
        embedding = torch.relu(self.norm(self.filters(image))).mean((2, 3))
        return {"logits": self.last(embedding), "embedding": embedding}


class Words(nn.Module):
    """A stateful recurrent network over tokens."""

    def __init__(self):
        super().__init__()
        self.words, self.memory, self.last = nn.Embedding(50, 8), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, tokens, hidden, cell):
        found, (hidden, cell) = self.memory(self.words(tokens), (hidden, cell))
        return self.last(found), hidden, cell


class Attention(nn.Module):
    """A transformer layer with a boolean mask."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, tokens, is_padding):
        return self.layers(tokens, src_key_padding_mask=is_padding)


class Branches(nn.Module):
    """Data-dependent control flow."""

    def forward(self, x, doubled):
        return torch.cond(doubled.any(), lambda x: x * 2, lambda x: x - 1, (x,))


def main():
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    rows = {"dynamic_shapes": {"features": {0: batch}}}
    export("network", Network, (torch.zeros(2, 4),), **rows)
    export("half", Half, (torch.zeros(2, 4, dtype=torch.float16),), **rows)
    export("images", Images, (torch.zeros(2, 3, 8, 8),), dynamic_shapes={"image": {0: batch}})
    state = torch.zeros(1, 1, 8)
    export("words", Words, (torch.zeros(1, 3, dtype=torch.int64), state, state))
    free = {0: batch, 1: length}
    export(
        "attention",
        Attention,
        (torch.zeros(2, 6, 16), torch.zeros(2, 6, dtype=torch.bool)),
        dynamic_shapes={"tokens": free, "is_padding": free},
    )
    export("branches", Branches, (torch.zeros(3), torch.tensor([True])))
    # The previous exporter, which writes one file.
    export(
        "before",
        Network,
        (torch.zeros(2, 4),),
        dynamo=False,
        input_names=["features"],
        output_names=["classes"],
        dynamic_axes={"features": {0: "batch"}, "classes": {0: "batch"}},
    )


if __name__ == "__main__":
    main()
