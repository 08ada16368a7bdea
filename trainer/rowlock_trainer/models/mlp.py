"""A multilayer perceptron on flattened images."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class Mlp(nn.Module):
    """Linear layers with ReLU, then dropout, between them.

    Args:
        inputs: Values in one image.
        hidden: Width of each hidden layer.
        classes: Classes to tell apart.
        dropout: Share of activations dropped in training, after each hidden layer.
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        # Dropout has no weights and takes no place among the layers: their names are those of checkpoints.
        layers: list[nn.Module] = [nn.Flatten()]
        for wide, narrow in pairwise((inputs, *hidden)):
            layers += [nn.Linear(wide, narrow), nn.Sequential(nn.ReLU(), nn.Dropout(dropout))]
        self.layers = nn.Sequential(*layers, nn.Linear((inputs, *hidden)[-1], classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [n, classes] of images [n, ...]."""
        logits: torch.Tensor = self.layers(images)
        return logits
