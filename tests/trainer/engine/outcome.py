"""What a run came to: read from its checkpoints and its history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from rowlock.protocol import TrainerConfig
from rowlock_trainer.checkpoint import Checkpointer, list_checkpoints, weights_digest
from rowlock_trainer.engine.builtin import build_task
from rowlock_trainer.engine.learner import Learner
from rowlock_trainer.engine.state import tensors_of


def digests(directory: Path, step: int) -> dict[str, str]:
    """Digest of weights and of optimizer state after `step`; equal digests mean equal in every bit."""
    (note,) = (note for note in list_checkpoints(directory) if note.step == step)
    return {part: weights_digest(directory, note.name, part) for part in ("model", "optimizer")}


def weights(directory: Path, config: TrainerConfig) -> dict[str, torch.Tensor]:
    """Weights of the newest checkpoint."""
    learner = Learner.build(config, build_task(config), torch.device("cpu"))
    checkpointer = Checkpointer(
        directory,
        keep=2,
        generation=99,
        group=None,
        on_verified=lambda note: None,
        on_notice=lambda notice: None,
    )
    assert checkpointer.load_newest(tensors_of(learner.model, learner.optimizer)) is not None
    return learner.model.state_dict()


def history(directory: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl."""
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
