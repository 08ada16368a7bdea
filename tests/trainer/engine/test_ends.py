"""How a rank ends other than by finishing, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rowlock.protocol import CheckpointConfig, ExitCode, ModelConfig, OptimizerConfig, RankExit, TrainerConfig
from rowlock_trainer.checkpoint import list_checkpoints
from tests.trainer.engine.crew import Crew, WarmParent, trainer

ENDLESS = trainer(steps=10_000_000)


def failures(crew: Crew) -> list[RankExit]:
    told = [state.failure for state in crew.states.values()]
    assert None not in told
    return [failure for failure in told if failure is not None]


def end_of_one(parent: WarmParent, folder: Path, config: TrainerConfig, fault: str = "") -> RankExit:
    """Start a crew of one that fails; return what it says."""
    with Crew(parent, folder, config, 1, faults={0: fault}) as crew:
        (code,) = crew.exits()
    (failure,) = failures(crew)
    assert failure.code == code
    return failure


def test_ranks_whose_peer_was_killed_end_with_peer_lost_and_say_their_step(parent: WarmParent, tmp_path: Path) -> None:
    with Crew(parent, tmp_path, ENDLESS, 4) as crew:
        crew.reached(3)
        crew.kill(0)
        codes = crew.exits()
    assert codes == [-9, *[ExitCode.PEER_LOST] * 3]
    for rank in (1, 2, 3):
        failure = crew.states[rank].failure
        assert failure is not None
        assert failure.reason.startswith("a peer went away")
        assert failure.step >= 3


def test_a_rank_whose_launcher_hangs_up_ends(parent: WarmParent, tmp_path: Path) -> None:
    with Crew(parent, tmp_path, ENDLESS, 2) as crew:
        crew.reached(3)
        crew.hang_up(1)
        assert crew.exits() == [ExitCode.PEER_LOST, ExitCode.FAILED]


def test_a_rank_whose_launcher_hangs_up_before_the_crew_is_whole_ends(parent: WarmParent, tmp_path: Path) -> None:
    with Crew(parent, tmp_path, ENDLESS, 1, give_store=False) as crew:
        crew.wait_for(lambda: 0 in crew.states and crew.states[0].phase == "ready")
        crew.hang_up(0)
        assert crew.exits() == [ExitCode.FAILED]


def test_a_rank_told_to_save_before_the_crew_is_whole_ends_as_saved(parent: WarmParent, tmp_path: Path) -> None:
    with Crew(parent, tmp_path, ENDLESS, 1, give_store=False) as crew:
        crew.wait_for(lambda: 0 in crew.states and crew.states[0].phase == "ready")
        crew.save(0)
        assert crew.exits() == [ExitCode.SAVED]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none_is_a_configuration_error(parent: WarmParent, tmp_path: Path) -> None:
    failure = end_of_one(parent, tmp_path, trainer(device="cuda"))
    assert failure.code == ExitCode.CONFIG
    assert "trainer.device cuda: no CUDA device" in failure.reason
    assert failure.traceback == ""


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (trainer(accumulation_steps=5), "globalBatchSize 32 is not a multiple of ranks x accumulationSteps = 1 x 5"),
        (trainer(model=ModelConfig("gpt")), "trainer.model gpt does not go with trainer.data digits"),
        (trainer(model=ModelConfig("cnn", channels=(1,) * 4)), "halved only 3 times"),
        (trainer(data="python-text", model=ModelConfig("gpt", heads=3)), "width 64 is not a multiple of"),
    ],
    ids=["batch", "data", "channels", "heads"],
)
def test_a_job_that_cannot_run_is_a_configuration_error_that_names_the_field(
    parent: WarmParent, tmp_path: Path, config: TrainerConfig, words: str
) -> None:
    failure = end_of_one(parent, tmp_path, config)
    assert failure.code == ExitCode.CONFIG
    assert words in failure.reason


def test_a_fault_that_is_none_is_a_configuration_error(parent: WarmParent, tmp_path: Path) -> None:
    failure = end_of_one(parent, tmp_path, trainer(), fault="kill@noon")
    assert failure.code == ExitCode.CONFIG
    assert "'kill@noon'" in failure.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "trainer.seed 0, the job says 1"),
        ({"model": ModelConfig("mlp", hidden=(32, 8))}, "layers.3.weight"),
    ],
    ids=["seed", "shape"],
)
def test_a_checkpoint_of_another_run_is_a_configuration_error(
    parent: WarmParent, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with Crew(parent, tmp_path, trainer(steps=2), 1) as crew:
        assert crew.exits() == [0]
    with Crew(parent, tmp_path, trainer(steps=4, **change), 1, generation=2) as crew:
        assert crew.exits() == [ExitCode.CONFIG]
    (failure,) = failures(crew)
    assert words in failure.reason


def test_training_that_diverges_is_not_tried_again_and_saves_nothing(parent: WarmParent, tmp_path: Path) -> None:
    wild = trainer(optimizer=OptimizerConfig("sgd", 1e30), schedule=trainer().schedule)
    with Crew(parent, tmp_path, wild, 2, checkpoint=CheckpointConfig(str(tmp_path / "c"), every_steps=1)) as crew:
        codes = crew.exits()
    # Both see the same loss and the same weights; who tells first may be heard by the other as a lost peer.
    assert ExitCode.CONFIG in codes
    assert set(codes) <= {ExitCode.CONFIG, ExitCode.PEER_LOST}
    told = [failure for failure in failures(crew) if failure.code == ExitCode.CONFIG]
    for way_out in ("Another try would diverge the same way", "learningRate", "gradientClipNorm"):
        assert all(way_out in failure.reason for failure in told)
    assert all(failure.traceback == "" for failure in told)
    assert list_checkpoints(tmp_path / "c") == []


@pytest.mark.parametrize("every_steps", [0, 2000], ids=["at the end", "at a step that is also the last"])
def test_a_last_save_that_fails_again_and_again_is_a_storage_error(
    parent: WarmParent, tmp_path: Path, every_steps: int
) -> None:
    config = trainer(steps=2000)
    checkpoint = CheckpointConfig(str(tmp_path / "checkpoints"), every_steps=every_steps)
    with Crew(parent, tmp_path, config, 1, checkpoint=checkpoint) as crew:
        crew.reached(1)
        # A file where the checkpoints' directory should be: the volume takes no writes there.
        for line in crew.directory.iterdir():
            line.unlink()
        crew.directory.rmdir()
        crew.directory.write_text("in the way")
        assert crew.exits() == [ExitCode.STORAGE]
    (failure,) = failures(crew)
    assert str(crew.directory) in failure.reason
