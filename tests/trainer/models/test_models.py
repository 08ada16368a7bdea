"""Models compute what they say, and nothing depends on how a batch is cut."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from rowlock_trainer.models.cnn import Cnn
from rowlock_trainer.models.gpt import Gpt
from rowlock_trainer.models.mlp import Mlp


def gpt(dropout: float = 0.0) -> Gpt:
    return Gpt(vocabulary=256, context=16, layers=2, heads=2, width=32, dropout=dropout)


@pytest.mark.parametrize("model", [Mlp(64, (32, 16), 10), Mlp(64, (), 10), Cnn(8, (4, 6, 8), 10)], ids=str)
def test_a_classifier_gives_each_image_a_logit_a_class(model: nn.Module) -> None:
    assert model(torch.rand(5, 1, 8, 8)).shape == (5, 10)


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (Mlp(64, (32,), 10), torch.rand(8, 1, 8, 8)),
        (Cnn(8, (8, 16), 10), torch.rand(8, 1, 8, 8)),
        (gpt(), torch.randint(256, (8, 16))),
    ],
    ids=["mlp", "cnn", "gpt"],
)
def test_a_batch_cut_in_two_gives_the_same_answers(model: nn.Module, batch: torch.Tensor) -> None:
    halves = torch.cat([model(batch[:3]), model(batch[3:])])
    torch.testing.assert_close(halves, model(batch))


@pytest.mark.parametrize("model", [Mlp(64, (32,), 10), Cnn(8, (8, 16), 10), gpt()], ids=["mlp", "cnn", "gpt"])
def test_no_model_has_buffers_that_ranks_would_have_to_keep_equal(model: nn.Module) -> None:
    assert list(model.buffers()) == []


def test_a_network_with_more_blocks_than_halvings_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"model\.cnn\.channels has 4 blocks, but .* halved only 3 times"):
        Cnn(8, (1, 1, 1, 1), 10)


def test_a_language_model_does_not_look_ahead() -> None:
    model = gpt()
    text = torch.randint(256, (1, 16))
    changed = text.clone()
    changed[0, 10:] = (changed[0, 10:] + 1) % 256
    before, after = model(text), model(changed)
    assert torch.equal(before[0, :10], after[0, :10])
    assert not torch.equal(before[0, 10:], after[0, 10:])


def test_an_untrained_language_model_knows_nothing() -> None:
    torch.manual_seed(0)
    text = torch.randint(256, (8, 17))
    logits = gpt()(text[:, :-1])
    loss = functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(256), abs=0.1)


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (Mlp(64, (32,), 10, dropout=0.5), torch.rand(8, 1, 8, 8)),
        (Cnn(8, (8, 16), 10, dropout=0.5), torch.rand(8, 1, 8, 8)),
        (gpt(dropout=0.5), torch.randint(256, (2, 16))),
    ],
    ids=["mlp", "cnn", "gpt"],
)
def test_dropout_draws_from_the_generator_in_training_only(model: nn.Module, batch: torch.Tensor) -> None:
    torch.manual_seed(1)
    first = model(batch)
    assert not torch.equal(model(batch), first)
    torch.manual_seed(1)
    assert torch.equal(model(batch), first)
    model.eval()
    assert torch.equal(model(batch), model(batch))


def test_dropout_of_a_perceptron_follows_each_hidden_layer_and_moves_no_name() -> None:
    model = Mlp(64, (32, 16), 10, dropout=0.25)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.25, 0.25]
    assert model.state_dict().keys() == {f"layers.{layer}.{kind}" for layer in (1, 3, 5) for kind in ("weight", "bias")}


def test_heads_that_do_not_divide_the_width_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"model\.gpt\.width 32 is not a multiple of model\.gpt\.heads 3"):
        Gpt(256, 16, 1, 3, 32)
