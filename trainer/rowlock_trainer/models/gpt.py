"""A byte-level GPT: pre-norm transformer blocks with causal attention.

Follows Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (GPT-2), with the
initialisation given there: residual projections scaled by 1 / sqrt(2 x layers). The output shares no weights
with the embedding, which at 256 bytes saves nothing.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

#: GPT-2's standard deviation of initial weights.
_INIT_STD = 0.02


class Gpt(nn.Module):
    """A causal language model.

    Args:
        vocabulary: Symbols.
        context: Symbols a prediction may look back on.
        layers: Transformer blocks.
        heads: Attention heads; must divide `width`.
        width: Size of the residual stream.
        dropout: Share of activations dropped in training.

    Raises:
        ValueError: `heads` does not divide `width`.
    """

    def __init__(
        self, vocabulary: int, context: int, layers: int, heads: int, width: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"model.gpt.width {width} is not a multiple of model.gpt.heads {heads}")
        self.symbols = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.drop = nn.Dropout(dropout)
        blocks = [Block(width, heads, dropout) for _ in range(layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.apply(_initialise)
        for block in blocks:
            for residual in (block.attention.output, block.shrink):
                nn.init.normal_(residual.weight, std=_INIT_STD / (2 * layers) ** 0.5)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Return logits [n, length, vocabulary] of symbols, int64 [n, length]; length <= context."""
        places = torch.arange(text.shape[1], device=text.device)
        stream = self.drop(self.symbols(text) + self.positions(places))
        for block in self.blocks:
            stream = block(stream)
        logits: torch.Tensor = self.head(self.norm(stream))
        return logits


class Block(nn.Module):
    """Attention and a feed-forward layer, each added to the residual stream [n, length, width]."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.norm_2 = nn.LayerNorm(width)
        self.grow = nn.Linear(width, 4 * width)
        self.shrink = nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        """Return the stream with what this block has to say added."""
        stream = stream + self.attention(self.norm_1(stream))
        thought = self.shrink(functional.gelu(self.grow(self.norm_2(stream))))
        added: torch.Tensor = stream + self.drop(thought)
        return added


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.input = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        """Return what each place gathers from itself and the places before it, [n, length, width]."""
        n, length, width = stream.shape
        split = self.input(stream).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        gathered = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, dropout_p=self.dropout if self.training else 0.0
        )
        output: torch.Tensor = self.output(gathered.transpose(1, 2).reshape(n, length, width))
        return output


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=_INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
