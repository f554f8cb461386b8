"""Exports a Hugging Face model that embeds sentences: pip install torch onnxscript transformers

    hugging_face_model.py sentence-transformers/all-MiniLM-L6-v2 model.onnx

The first argument is a model on the hub, or a folder with its files.
"""

import sys

import torch
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
rows = ["A dry white wine.", "A red wine, with notes of cherry and oak.", "The train is late.", "Delay!"]


class Embedding(torch.nn.Module):
    """Normalized mean of the tokens' embeddings. Padding does not count."""

    encoder = AutoModel.from_pretrained(sys.argv[1])

    def forward(self, input_ids, attention_mask):
        tokens = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(tokens.dtype)
        return torch.nn.functional.normalize((tokens * weights).sum(1) / weights.sum(1))


model = Embedding().eval()


def tokenize(rows):
    """Inputs of the model for these sentences."""
    return tokenizer(rows, padding=True, truncation=True, return_tensors="pt", return_token_type_ids=False)


def predict(rows):
    """Predictions of the original model, for a comparison."""
    with torch.no_grad():
        return model(**tokenize(rows)).numpy()


if __name__ == "__main__":
    # The numbers of sentences and of tokens stay free. The weights are in the same file.
    axes = {0: torch.export.Dim("sentences"), 1: torch.export.Dim("tokens")}
    torch.onnx.export(
        model,
        kwargs=dict(tokenize(rows[:2])),
        f=sys.argv[2],
        output_names=["embeddings"],
        dynamic_shapes={"input_ids": axes, "attention_mask": axes},
        external_data=False,
    )
