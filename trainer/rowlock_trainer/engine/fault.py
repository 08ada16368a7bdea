"""Faults on purpose: what a demonstration and a test need in order to show a recovery."""

from __future__ import annotations

import os
import signal

from rowlock_trainer.engine.failure import ConfigError


class Fault:
    """``kill@STEP``: end this rank's whole worker with SIGKILL once it has finished STEP.

    Args:
        text: The fault, or "" for none.
        launcher_pid: Process that has to end with the rank for the worker to be gone; 0 for none.

    Raises:
        ConfigError: `text` is neither.
    """

    def __init__(self, text: str, launcher_pid: int = 0) -> None:
        self._step: int | None = None
        self._launcher_pid = launcher_pid
        if not text:
            return
        kind, _, step = text.partition("@")
        if kind != "kill" or not step.isdecimal():
            raise ConfigError(f"ROWLOCK_FAULT {text!r} is not understood: give kill@STEP, such as kill@40")
        self._step = int(step)

    def strike(self, step: int) -> None:
        """Do it, if `step` is the one."""
        if step == self._step:
            # When the launcher dies the kernel ends its warm parent and all ranks, as when a node dies.
            if self._launcher_pid:
                os.kill(self._launcher_pid, signal.SIGKILL)
            os.killpg(os.getpgid(0), signal.SIGKILL)
