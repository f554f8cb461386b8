"""Exports a PyTorch model: pip install torch onnxscript scikit-learn"""

import sys

import numpy
import torch
from sklearn.datasets import load_wine

data = load_wine()
rows = data.data.astype(numpy.float32)
features, labels = torch.from_numpy(rows), torch.from_numpy(data.target)

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.BatchNorm1d(rows.shape[1]), torch.nn.Linear(rows.shape[1], 16), torch.nn.ReLU(), torch.nn.Linear(16, 3), torch.nn.Softmax(-1)
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(100):
    optimizer.zero_grad()
    torch.nn.functional.nll_loss(model(features).log(), labels).backward()
    optimizer.step()
# Without it, the exported normalization would use the statistics of each request's rows.
model.eval()


def predict(rows):
    """Predictions of the original model, for a comparison."""
    with torch.no_grad():
        return model(torch.from_numpy(rows)).numpy()


if __name__ == "__main__":
    # The number of rows stays free. The weights are in the same file.
    torch.onnx.export(
        model,
        (features[:2],),
        sys.argv[1],
        input_names=["features"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("rows")},),
        external_data=False,
    )
