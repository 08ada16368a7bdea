"""What a fault costs: time, never a bit of the result."""

from __future__ import annotations

from pathlib import Path

import pytest

from rowlock.protocol import CheckpointConfig, ExitCode, ModelConfig, OptimizerConfig
from tests.trainer.engine.crew import Crew, WarmParent, trainer
from tests.trainer.engine.outcome import digests, history

#: 2.8 MiB of gradients: more than one of torch's buckets, the first of which holds 1 MiB.
WIDE = ModelConfig("mlp", hidden=(1024, 512, 256))

JOBS = {
    "long": trainer(model=WIDE, steps=120),
    "wide": trainer(model=WIDE, steps=24, accumulation_steps=2, gradient_clip_norm=0.5),
    "dropout": trainer(
        model=ModelConfig("gpt", layers=2, heads=2, width=32, context=16, dropout=0.2),
        data="python-text",
        steps=24,
        optimizer=OptimizerConfig("sgd", 0.1, momentum=0.9),
    ),
}


@pytest.fixture(scope="module")
def undisturbed(parent: WarmParent, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Digests of the jobs' final states when nothing happens to them."""
    results = {}
    for name, config in JOBS.items():
        with Crew(parent, tmp_path_factory.mktemp(name), config, 4) as crew:
            assert crew.exits() == [0] * 4
        results[name] = digests(crew.directory, config.steps)
    return results


def go_on(parent: WarmParent, before: Crew) -> Crew:
    """The next generation of a crew, to its end."""
    with Crew(
        parent, before.folder, before.config, before.world_size, before.generation + 1, before.checkpoint
    ) as crew:
        assert crew.exits() == [0] * before.world_size
    return crew


@pytest.mark.parametrize("name", ["wide", "dropout"])
def test_a_killed_and_resumed_run_ends_bitwise_as_an_undisturbed_one(
    parent: WarmParent, tmp_path: Path, undisturbed: dict[str, dict[str, str]], name: str
) -> None:
    config = JOBS[name]
    checkpoint = CheckpointConfig(str(tmp_path / "checkpoints"), every_steps=4)
    with Crew(parent, tmp_path, config, 4, checkpoint=checkpoint, faults={2: "kill@14"}) as crew:
        codes = crew.exits()
    assert codes[2] == -9
    assert [codes[rank] for rank in (0, 1, 3)] == [ExitCode.PEER_LOST] * 3
    assert all(crew.states[rank].failure is not None for rank in (0, 1, 3))

    crew = go_on(parent, crew)
    # The checkpoint of step 12 may have been under way when the rank died; the one before it was not.
    assert crew.states[0].resumed_from in (8, 12)
    assert digests(crew.directory, config.steps) == undisturbed[name]
    resumed = [notice for notice in crew.states[0].notices if notice.kind == "Resumed"]
    assert [f"step {crew.states[0].resumed_from} " in notice.message for notice in resumed] == [True]
    assert [line["step"] for line in history(crew.directory) if line.get("event") == "resumed"] == [
        crew.states[0].resumed_from
    ]


def test_after_a_bad_newest_checkpoint_ranks_tell_the_one_they_went_on_from(parent: WarmParent, tmp_path: Path) -> None:
    checkpoint = CheckpointConfig(str(tmp_path / "checkpoints"), every_steps=4)
    with Crew(parent, tmp_path, trainer(steps=8), 2, checkpoint=checkpoint) as crew:
        assert crew.exits() == [0, 0]
    told = crew.states[0].checkpoint
    assert told is not None
    assert told.step == 8
    (crew.directory / told.name / "rank-00000.bin").write_bytes(b"bad")

    crew = go_on(parent, crew)
    first = [next(state.checkpoint for state in crew.history if state.rank == r and state.checkpoint) for r in (0, 1)]
    assert [(note.step, note.generation) for note in first] == [(4, 1), (4, 1)]
    (rejected,) = [notice for notice in crew.states[0].notices if notice.kind == "CheckpointRejected"]
    assert told.name in rejected.message
    last = crew.states[0].checkpoint
    assert last is not None
    assert (last.step, last.generation) == (8, 2)


def test_one_rank_told_to_save_stops_all_at_one_step_and_nothing_is_lost(
    parent: WarmParent, tmp_path: Path, undisturbed: dict[str, dict[str, str]]
) -> None:
    config = JOBS["long"]
    with Crew(parent, tmp_path, config, 4) as crew:
        crew.reached(5)
        crew.save(3)
        assert crew.exits() == [ExitCode.SAVED] * 4
    stopped = crew.states[0].checkpoint
    assert stopped is not None
    assert 5 <= stopped.step < config.steps
    assert [state.step for state in crew.states.values()] == [stopped.step] * 4
    assert [state.checkpoint for state in crew.states.values()] == [stopped] * 4

    crew = go_on(parent, crew)
    assert crew.states[0].resumed_from == stopped.step
    assert digests(crew.directory, config.steps) == undisturbed["long"]


def test_the_clock_of_rank_0_makes_all_ranks_save_at_one_step(parent: WarmParent, tmp_path: Path) -> None:
    checkpoint = CheckpointConfig(str(tmp_path / "checkpoints"), every_seconds=0.05)
    endless = trainer(steps=10_000_000)
    with Crew(parent, tmp_path, endless, 2, checkpoint=checkpoint) as crew:
        crew.wait_for(lambda: len(crew.states) == 2 and all(state.checkpoint for state in crew.states.values()))
        crew.save(0)
        assert crew.exits() == [ExitCode.SAVED] * 2
    saved = [
        list(dict.fromkeys(state.checkpoint.step for state in crew.history if state.rank == rank and state.checkpoint))
        for rank in range(2)
    ]
    assert saved[0] == saved[1]
    assert len(saved[0]) >= 2


def test_a_job_resumes_on_fewer_ranks(parent: WarmParent, tmp_path: Path) -> None:
    config = JOBS["wide"]
    checkpoint = CheckpointConfig(str(tmp_path / "checkpoints"), every_steps=4)
    with Crew(parent, tmp_path, config, 4, checkpoint=checkpoint, faults={1: "kill@14"}) as crew:
        crew.exits()
    with Crew(parent, tmp_path, config, 2, 2, checkpoint) as crew:
        assert crew.exits() == [0, 0]
    assert crew.states[0].resumed_from in (8, 12)
    assert crew.states[0].step == 24


def test_a_job_that_was_finished_finishes_again_at_once_with_its_last_loss(parent: WarmParent, tmp_path: Path) -> None:
    with Crew(parent, tmp_path, trainer(steps=6), 2) as first:
        assert first.exits() == [0, 0]
    again = go_on(parent, first)
    assert again.states[0].resumed_from == 6
    before, after = first.states[0].progress, again.states[0].progress
    assert before is not None
    assert after is not None
    assert (after.step, after.loss, after.evaluation) == (6, before.loss, before.evaluation)
