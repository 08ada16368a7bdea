"""What the API server would not do for a job, and when it is worth asking again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rowlock_operator.core.model import Action, Refusal
from rowlock_operator.kube.actions import action_name
from rowlock_operator.kube.backoff import delay_after

Key = tuple[str, str]

#: Doublings skipped: a refusal is not over in a tenth of a second, so its delays begin at about a second.
HEAD_START = 4


@dataclass(frozen=True)
class _Held:
    refusals: tuple[Refusal, ...]
    #: metadata.generation the refusals were given for; a changed spec is tried at once.
    generation: int
    until: float
    times: int


class Refused:
    """Refusals by job."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[Key, _Held] = {}

    def of(self, key: Key) -> tuple[Refusal, ...]:
        """Return what was refused the last time."""
        held = self._held.get(key)
        return () if held is None else held.refusals

    def due(self, key: Key, generation: int, actions: tuple[Action, ...]) -> tuple[Action, ...]:
        """Return the actions to try now: those of a kind that was just refused wait their turn."""
        held = self._held.get(key)
        if held is None or held.generation != generation or self._clock() >= held.until:
            return actions
        waiting = {refusal.action for refusal in held.refusals}
        return tuple(action for action in actions if action_name(action) not in waiting)

    def note(
        self, key: Key, generation: int, wanted: tuple[Action, ...], tried: tuple[Action, ...], new: list[Refusal]
    ) -> bool:
        """Take in how the tried actions went; return whether the refusals are other ones than before."""
        held = self._held.get(key)
        # One refusal of a kind says it all: 64 pods over quota are one trouble. Which of them is refused first is
        # chance, so the one that is told is chosen.
        refusals = {one.action: one for one in sorted(new, key=lambda one: (one.reason, one.message), reverse=True)}
        if held is not None:
            skipped = {action_name(action) for action in wanted} - {action_name(action) for action in tried}
            refusals |= {refusal.action: refusal for refusal in held.refusals if refusal.action in skipped}
        if not refusals:
            self._held.pop(key, None)
            return held is not None
        if held is None or new:
            times = 1 if held is None or held.generation != generation else held.times + 1
            until = self._clock() + delay_after(times + HEAD_START)
        else:
            times, until = held.times, held.until
        told = tuple(sorted(refusals.values(), key=lambda one: one.action))
        self._held[key] = _Held(told, generation, until, times)
        return held is None or held.refusals != told

    def again_after(self, key: Key) -> float | None:
        """Return the seconds until refused actions are tried again, None when there are none."""
        held = self._held.get(key)
        return None if held is None else max(0.0, held.until - self._clock())

    def forget(self, key: Key) -> None:
        """Drop what was refused to a job that is gone."""
        self._held.pop(key, None)
