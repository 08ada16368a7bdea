"""A tiny launcher for tests: starts ranks as real processes and speaks their wire."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rowlock.protocol import (
    CheckpointConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainerConfig,
    WorkerConfig,
    decode,
    encode,
)
from rowlock_trainer.channel import RankCommand, RankSetup, RankState
from tests.trainer.engine import warm_parent

#: Longest any test waits for anything, in seconds. Generous: it only bounds a test that fails.
DEADLINE = 120.0

MLP = ModelConfig(name="mlp", hidden=(32, 16))
ADAMW = OptimizerConfig(name="adamw", learning_rate=0.003)


def trainer(**changes: object) -> TrainerConfig:
    """A small job on the digits; name what differs."""
    options: dict[str, object] = {
        "model": MLP,
        "data": "digits",
        "global_batch_size": 32,
        "steps": 30,
        "optimizer": ADAMW,
        "schedule": ScheduleConfig("cosine", warmup_steps=5),
        "device": "cpu",
        "log_every_steps": 5,
    }
    return TrainerConfig(**{**options, **changes})  # type: ignore[arg-type]


class WarmParent:
    """The process that ranks are forked from, and what it told of them."""

    def __init__(self) -> None:
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.trainer.engine.warm_parent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
        )
        self.changed = threading.Condition()
        self._started: list[int] = []
        self.exits: dict[int, int] = {}
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"warm\n"
        threading.Thread(target=self._read, daemon=True).start()

    def start(self, entry: str, argument: object) -> int:
        """Fork a process that calls `entry` with `argument`; return its pid."""
        assert self._process.stdin is not None
        with self.changed:
            count = len(self._started)
            self._process.stdin.write(json.dumps({"entry": entry, "argument": argument}).encode() + b"\n")
            self._process.stdin.flush()
            assert self.changed.wait_for(lambda: len(self._started) > count, DEADLINE)
            return self._started[-1]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(DEADLINE)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, *numbers = line.split()
            with self.changed:
                if kind == b"started":
                    self._started.append(int(numbers[0]))
                else:
                    self.exits[int(numbers[0])] = int(numbers[1])
                self.changed.notify_all()


def together(
    parent: WarmParent,
    folder: Path,
    entry: str,
    world_size: int,
    *,
    codes: list[int] | None = None,
    **options: object,
) -> list[Any]:
    """Run `entry` in `world_size` processes; return what each wrote to the path it was given as ``result``."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    results = [folder / f"result-{rank}.json" for rank in range(world_size)]
    pids = [
        parent.start(
            entry,
            {**options, "rank": rank, "world_size": world_size, "folder": str(folder), "result": str(result)},
        )
        for rank, result in enumerate(results)
    ]
    with parent.changed:
        assert parent.changed.wait_for(lambda: all(pid in parent.exits for pid in pids), DEADLINE)
    assert [parent.exits[pid] for pid in pids] == (codes or [0] * world_size)
    return [json.loads(result.read_text()) for result in results]


@dataclass
class Crew:
    """All ranks of one generation, each a worker of its own."""

    parent: WarmParent
    folder: Path
    config: TrainerConfig
    world_size: int
    generation: int = 1
    checkpoint: CheckpointConfig | None = None
    #: Fault by rank.
    faults: dict[int, str] = field(default_factory=dict)
    #: Whether ranks are given the store as soon as all are ready.
    give_store: bool = True
    #: What each rank's process calls.
    entry: str = f"{warm_parent.__name__}:rank"
    states: dict[int, RankState] = field(default_factory=dict)
    #: Every state of every rank, in order.
    history: list[RankState] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._changed = self.parent.changed
        self._wires: dict[int, socket.socket] = {}
        self._save: set[int] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._path = str(self.folder / f"g{self.generation}.sock")
        self._listener.bind(self._path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        self.pids = [
            self.parent.start(self.entry, json.loads(encode(self.setup(rank)))) for rank in range(self.world_size)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for rank in range(self.world_size):
            if self.pids[rank] not in self.parent.exits:
                self.kill(rank)
        self.wait_for(lambda: all(pid in self.parent.exits for pid in self.pids))
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def directory(self) -> Path:
        return self.folder / "checkpoints"

    def setup(self, rank: int) -> RankSetup:
        checkpoint = self.checkpoint or CheckpointConfig(str(self.directory))
        worker = WorkerConfig("job", "default", "uid", rank, self.world_size, 1, checkpoint, trainer=self.config)
        return RankSetup(
            worker,
            self.generation,
            rank,
            0,
            self.world_size,
            "127.0.0.1",
            self._path,
            self.faults.get(rank, ""),
        )

    def wait_for(self, condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, seconds), f"in vain; ranks say {self.states}"

    def exits(self) -> list[int]:
        """Wait until all ranks ended; return their exit codes, minus the signal when killed."""
        self.wait_for(lambda: all(pid in self.parent.exits for pid in self.pids))
        return [self.parent.exits[pid] for pid in self.pids]

    def reached(self, step: int) -> None:
        """Wait until rank 0 has finished `step`."""
        self.wait_for(lambda: 0 in self.states and self.states[0].step >= step)

    def save(self, rank: int) -> None:
        """Tell one rank, as a launcher that got SIGTERM does."""
        self._save.add(rank)
        self._command(rank)

    def kill(self, rank: int) -> None:
        os.kill(self.pids[rank], signal.SIGKILL)

    def hang_up(self, rank: int) -> None:
        """Close the wire to a rank, as a launcher that died does."""
        self._wires[rank].shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return  # closed by __exit__
            threading.Thread(target=self._read, args=(wire,), daemon=True).start()

    def _read(self, wire: socket.socket) -> None:
        try:
            for line in wire.makefile("rb"):
                state = decode(line, RankState)
                with self._changed:
                    self._wires[state.rank] = wire
                    self.states[state.rank] = state
                    self.history.append(state)
                    self._changed.notify_all()
                self._maybe_give_store(state)
        except ConnectionError:
            return  # the rank was killed

    def _maybe_give_store(self, state: RankState) -> None:
        ready = [other for other in self.states.values() if other.phase != "starting"]
        if self.give_store and state.phase == "ready" and len(ready) == self.world_size:
            for rank in range(self.world_size):
                self._command(rank)

    def _command(self, rank: int) -> None:
        store = self.states[0].store if self.give_store else ""
        try:
            self._wires[rank].sendall(encode(RankCommand(store, rank in self._save)).encode() + b"\n")
        except OSError:
            assert self._wires[rank].fileno() >= 0, "the test closed a wire it still needs"  # else: the rank ended
