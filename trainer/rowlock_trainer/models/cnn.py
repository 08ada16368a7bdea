"""A small convolutional network on images.

GroupNorm instead of BatchNorm: statistics over one image do not depend on how the batch is split, so four
ranks compute what one would, and there are no running averages to keep equal.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

#: Groups of channels that are normalised together, or fewer where the channels do not divide by it.
#: Wu, He, "Group Normalization", 2018, found 2 to 32 groups within half a percent of each other.
_GROUPS = 8


class Cnn(nn.Module):
    """Blocks of convolution, GroupNorm, ReLU and 2 x 2 pooling, then dropout and one linear layer.

    Args:
        side: Height and width of an image, in pixels; halved by each block.
        channels: Channels of each block.
        classes: Classes to tell apart.
        dropout: Share of features dropped in training, before the classifier.

    Raises:
        ValueError: More blocks than the image can be halved.
    """

    def __init__(self, side: int, channels: tuple[int, ...], classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        left = side >> len(channels)
        if left < 1:
            raise ValueError(
                f"model.cnn.channels has {len(channels)} blocks, but an image of {side} x {side} pixels can be "
                f"halved only {int(math.log2(side))} times: give fewer"
            )
        blocks = [_block(before, after) for before, after in pairwise((1, *channels))]
        self.blocks = nn.Sequential(*blocks)
        self.drop = nn.Dropout(dropout)
        self.classify = nn.Linear((1, *channels)[-1] * left * left, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [n, classes] of images [n, 1, side, side]."""
        logits: torch.Tensor = self.classify(self.drop(self.blocks(images).flatten(1)))
        return logits


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=3, padding=1),
        nn.GroupNorm(math.gcd(_GROUPS, after), after),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
