"""A rank forked from the warm parent has nothing left to import."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from rowlock.protocol import CheckpointConfig, ModelConfig
from tests.trainer.engine import warm_parent
from tests.trainer.engine.crew import Crew, WarmParent, trainer


def rank_that_lists_its_imports(argument: dict[str, object]) -> int:
    before = set(sys.modules)
    code = warm_parent.rank(argument)
    late = sorted(set(sys.modules) - before)
    Path(f"{argument['socket']}.{argument['rank']}.json").write_text(json.dumps(late))
    return code


def test_a_whole_life_of_a_rank_imports_nothing(parent: WarmParent, tmp_path: Path) -> None:
    entry = f"{__name__}:rank_that_lists_its_imports"
    checkpoint = CheckpointConfig(str(tmp_path / "checkpoints"), every_steps=2)
    config = trainer(
        model=ModelConfig("gpt", layers=1, width=16, context=16),
        data="python-text",
        steps=6,
        evaluate_every_steps=2,
        gradient_clip_norm=1.0,
    )
    for generation in (1, 2):  # the second one loads what the first one saved
        job = replace(config, steps=6 * generation)
        with Crew(parent, tmp_path, job, 2, generation, checkpoint, entry=entry) as crew:
            assert crew.exits() == [0, 0]
    lists = sorted(tmp_path.glob("*.json"))
    assert len(lists) == 4
    assert {path.name: json.loads(path.read_text()) for path in lists} == {path.name: [] for path in lists}
