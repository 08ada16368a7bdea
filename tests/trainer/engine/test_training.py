"""A crew trains what one process would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rowlock.protocol import ModelConfig, OptimizerConfig, TrainerConfig
from tests.trainer.engine.crew import Crew, WarmParent, trainer
from tests.trainer.engine.outcome import history, weights


def run(parent: WarmParent, folder: Path, config: TrainerConfig, world_size: int) -> Crew:
    folder.mkdir()
    with Crew(parent, folder, config, world_size) as crew:
        assert crew.exits() == [0] * world_size
    return crew


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    # Sums are taken in another order, so single-precision rounding (1e-7) differs, and 30 steps amplify it.
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize(
    "optimizer", [OptimizerConfig("adamw", 0.003), OptimizerConfig("sgd", 0.1, momentum=0.9)], ids=lambda o: o.name
)
def test_four_ranks_reach_the_weights_that_one_reaches(
    parent: WarmParent, tmp_path: Path, optimizer: OptimizerConfig
) -> None:
    config = trainer(optimizer=optimizer, gradient_clip_norm=1.0)
    alone = run(parent, tmp_path / "1", config, 1)
    crew = run(parent, tmp_path / "4", config, 4)
    assert_close(weights(alone.directory, config), weights(crew.directory, config))


def test_accumulated_microbatches_reach_the_weights_of_one_large_batch(parent: WarmParent, tmp_path: Path) -> None:
    whole = run(parent, tmp_path / "whole", trainer(), 2)
    parts = run(parent, tmp_path / "parts", trainer(accumulation_steps=4), 2)
    assert_close(weights(whole.directory, trainer()), weights(parts.directory, trainer()))


def test_a_convolutional_network_learns_the_digits(parent: WarmParent, tmp_path: Path) -> None:
    config = trainer(
        model=ModelConfig("cnn", channels=(16, 32)), steps=200, global_batch_size=64, evaluate_every_steps=100
    )
    crew = run(parent, tmp_path / "cnn", config, 2)
    progress = crew.states[0].progress
    assert progress is not None
    assert progress.evaluation["accuracy"] >= 0.96
    assert (progress.step, progress.total_steps) == (200, 200)
    assert progress.epoch == pytest.approx(200 * 64 / 1437)
    assert progress.samples_per_second > 0


def test_a_language_model_learns_python_better_than_guessing_by_frequency(parent: WarmParent, tmp_path: Path) -> None:
    config = trainer(
        model=ModelConfig("gpt", layers=1, heads=2, width=32, context=32, dropout=0.1),
        data="python-text",
        steps=60,
        optimizer=OptimizerConfig("adamw", 0.01),
    )
    crew = run(parent, tmp_path / "gpt", config, 2)
    progress = crew.states[0].progress
    assert progress is not None
    # Bytes of Python source drawn by their frequency cost 4.6 bits each; uniform ones 8.
    assert progress.evaluation["bits_per_byte"] < 4.6


def test_history_has_each_logged_step_with_its_rate_and_generation(parent: WarmParent, tmp_path: Path) -> None:
    crew = run(parent, tmp_path / "run", trainer(steps=12), 2)
    lines = history(crew.directory)
    logged = [line for line in lines if "event" not in line]
    assert [line["step"] for line in logged] == [1, 5, 10, 12]
    assert {"step", "loss", "lr", "samples_per_second", "time", "generation"} == set(logged[0])
    assert logged[-1]["lr"] == 0.0  # the cosine has come to its end
    assert [line["event"] for line in lines if "event" in line] == ["evaluated", "finished"]


def test_every_rank_tells_its_way_from_start_to_done(parent: WarmParent, tmp_path: Path) -> None:
    crew = run(parent, tmp_path / "run", trainer(), 2)
    for rank in range(2):
        phases = [state.phase for state in crew.history if state.rank == rank]
        assert list(dict.fromkeys(phases)) == ["starting", "ready", "running", "done"]
        assert crew.states[rank].step == 30
        assert crew.states[rank].resumed_from == 0
    assert crew.states[0].checkpoint is not None
    assert crew.states[0].checkpoint.step == 30
