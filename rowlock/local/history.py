"""What the trainer logged of its run, as metrics.jsonl holds it beside the checkpoints."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class History:
    """What metrics.jsonl tells: per line a step, its loss, its Unix time and its generation."""

    steps: list[int]
    losses: list[float]
    times: list[float]
    generations: list[int]

    @classmethod
    def empty(cls, generation: int) -> History:
        """Return the history of a generation of which nothing was logged."""
        return cls([], [], [], [])

    @classmethod
    def read(cls, path: Path) -> History:
        """Read a run's history, empty when there is none; lines cut off or no measurements are passed over."""
        history = cls([], [], [], [])
        if not path.exists():
            return history
        for line in path.read_text(errors="replace").splitlines():
            try:
                values = json.loads(line)
            except ValueError:
                continue  # the half line of a writer that was killed
            if "event" in values or values.get("loss") is None:
                continue
            history.steps.append(values["step"])
            history.losses.append(values["loss"])
            history.times.append(values["time"])
            history.generations.append(values["generation"])
        return history

    def of(self, generation: int) -> History:
        """Return the part of one generation."""
        kept = [index for index, one in enumerate(self.generations) if one == generation]
        return History(
            [self.steps[i] for i in kept],
            [self.losses[i] for i in kept],
            [self.times[i] for i in kept],
            [generation] * len(kept),
        )
