"""Runs of the `rowlock` command, as a person starts them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

#: Longest a run may take, in seconds: importing torch on a busy machine is most of it.
DEADLINE = 120.0


def manifest(directory: Path, **spec: Any) -> Path:
    """Write a job named ``crew`` and return its path."""
    path = directory / "crew.yaml"
    job = {
        "apiVersion": "rowlock.dev/v1alpha1",
        "kind": "DistributedTrainingJob",
        "metadata": {"name": "crew"},
        "spec": {"workers": 2, **spec},
    }
    path.write_text(yaml.safe_dump(job))
    return path


def trainer(steps: int, **fields: Any) -> dict[str, Any]:
    """A byte-level GPT small enough for a test, its steps slow enough to be interrupted."""
    gpt = {"layers": 2, "heads": 4, "width": 64, "context": 64}
    return {"model": {"gpt": gpt}, "data": "python-text", "globalBatchSize": 16, "steps": steps, **fields}


@dataclass
class Run:
    """One run of the command that is going on or over."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches; fail when the run ends without one."""
        found: list[re.Match[str]] = []

        def seen() -> bool:
            found.extend(match for line in self.lines if (match := re.search(pattern, line)))
            return bool(found) or self.process.poll() is not None

        with self._changed:
            assert self._changed.wait_for(seen, DEADLINE), f"no line matches {pattern!r}:\n{self.output}"
        assert found, f"the run ended without a line that matches {pattern!r}:\n{self.output}"
        return found[0]

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    _reader: threading.Thread = field(default_factory=threading.Thread)


def start_process(path: Path, *options: str, **how: Any) -> subprocess.Popen[str]:
    """Start `rowlock run` in the job's own directory; `how` goes to subprocess.Popen."""
    state = path.parent / "state"
    command = [sys.executable, "-m", "rowlock.cli", "run", str(path), "--state-dir", str(state), *options]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, text=True, env=environ, cwd=path.parent, **how)


def processes_in(directory: Path) -> list[int]:
    """The processes whose working directory this is, as those of a run started there are."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended between two looks, or is not ours to look at
            if (entry / "cwd").resolve(strict=True) == directory.resolve():
                found.append(int(entry.name))
    return found


def wait_until_empty(directory: Path) -> None:
    """Wait until no process has this working directory any more."""
    deadline = time.monotonic() + 10
    while found := processes_in(directory):
        assert time.monotonic() < deadline, f"still there: {found}"
        time.sleep(0.05)  # the end of a process that is not our child is told to nobody


@contextlib.contextmanager
def start(path: Path, *options: str) -> Iterator[Run]:
    """Start `rowlock run` beside the test, and end it with the test."""
    process = start_process(path, *options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    run = Run(process)
    run._reader = threading.Thread(target=run.read, daemon=True)
    run._reader.start()
    try:
        yield run
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(DEADLINE)


def finish(path: Path, *options: str) -> tuple[int, str]:
    """Run to the end; return exit code and output."""
    with start(path, *options) as run:
        code = run.end()
        return code, run.output


def place(path: Path) -> Path:
    """Where the job lives."""
    return path.parent / "state" / "default" / "crew"


def status(path: Path) -> dict[str, Any]:
    """The status of the job, as the run left it."""
    stored: dict[str, Any] = json.loads((place(path) / "job.json").read_text())["status"]
    return stored


def wait_for_status(run: Run, path: Path, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the job's status, as written to disk, is as wanted; fail when the run ends before."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if (place(path) / "job.json").exists() and holds(status(path)):
            return
        assert run.process.poll() is None, f"the run ended too early:\n{run.output}"
        time.sleep(0.05)  # nothing tells of a file's change but looking
    raise AssertionError(f"the status never came:\n{run.output}")


def logs(path: Path, worker: int) -> str:
    return (place(path) / "logs" / f"worker-{worker}.log").read_text()
