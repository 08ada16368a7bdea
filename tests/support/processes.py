"""Child processes that never outlive the test run.

A test run may end by SIGKILL, by a timeout or by a debugger's exit, and a control plane left behind holds
ports and memory for days. So every child asks the kernel to be killed when its parent dies. The kernel ties
that wish to the parent's *thread*; children are therefore started from one thread that lives as long as the
process does, whichever thread or event loop asked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Runs between fork and exec of the real program, in a fresh interpreter: a preexec_fn would run Python in a
# forked copy of a process that may hold threads and locks. PR_SET_PDEATHSIG is 1 (linux/prctl.h);
# it survives exec.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != parent:
    sys.exit("the parent is gone already")
os.execv(sys.argv[2], sys.argv[2:])
"""
_starter_lock = threading.Lock()
_starter: ThreadPoolExecutor | None = None


def _starter_thread() -> ThreadPoolExecutor:
    global _starter  # noqa: PLW0603 - one per process by intent: its thread must live as long as the process
    with _starter_lock:
        if _starter is None:
            _starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="process-starter")
        return _starter


class Child:
    """A running program, its log file, and a way to end it."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @classmethod
    def start(
        cls, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
    ) -> Child:
        """Start `command` (its first part an absolute path), with stdout and stderr appended to `log`."""
        words = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *map(str, command)]
        with log.open("ab") as sink:
            launched = _starter_thread().submit(
                subprocess.Popen,
                words,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=dict(environment) if environment is not None else None,
            )
            return cls(name, launched.result(), log)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def tail(self, lines: int = 20) -> str:
        """The end of the log, for an error message."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """End it the hard way, as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self, grace_seconds: float = 10) -> None:
        """SIGTERM, and SIGKILL if it has not ended after `grace_seconds`."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
