"""A spec in the protocol's words."""

from __future__ import annotations

from typing import Any

import pytest

from rowlock.protocol import WorkerConfig, decode, encode
from rowlock_operator.resources.worker_config import worker_config
from tests.unit.resources.jobs import TRAINER, job


def config(**spec: Any) -> WorkerConfig:
    built = job(**spec)
    return worker_config(
        built.spec, namespace="lab", name="digits", uid="uid-1", worker=1, checkpoint_directory="/data/digits"
    )


@pytest.mark.parametrize(
    ("trainer", "model", "optimizer"),
    [
        ({}, "mlp", "adamw"),
        ({"model": {"cnn": {"channels": [8]}}, "optimizer": {"sgd": {"learningRate": 0.5}}}, "cnn", "sgd"),
        ({"model": {"gpt": {"layers": 3}}, "data": "python-text"}, "gpt", "adamw"),
    ],
)
def test_every_model_and_optimizer_has_its_words(trainer: dict[str, Any], model: str, optimizer: str) -> None:
    told = config(trainer=TRAINER | trainer).trainer
    assert told is not None
    assert (told.model.name, told.optimizer.name) == (model, optimizer)


def test_a_command_goes_without_a_trainer() -> None:
    told = config(command=["python", "train.py"])
    assert told.trainer is None
    assert told.command == ("python", "train.py")


def test_it_survives_the_wire() -> None:
    told = config(trainer=TRAINER | {"optimizer": {"adamw": {"beta1": 0.8, "eps": 1e-6}}})
    assert decode(encode(told), WorkerConfig) == told
    assert told.trainer is not None
    assert told.trainer.optimizer.betas == (0.8, 0.999)


def test_the_grace_of_the_pod_is_the_grace_of_the_ranks() -> None:
    assert config(template={"spec": {"terminationGracePeriodSeconds": 90}}).grace_seconds == 90.0
