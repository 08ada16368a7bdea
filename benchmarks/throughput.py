"""What Rowlock's engine costs in throughput, beside a bare DistributedDataParallel loop.

Both train the same byte-level GPT on the same samples with the same optimizer, two ranks on the CPU. The
bare loop is what one writes by hand, with torch's own settings: forward, backward, step, nothing else.
Rowlock's loop is the one that jobs run, with deterministic algorithms, its reports, votes, logged losses and
history, and without saves (benchmarks/checkpoint_stall.py is about those).

The two take turns step by step, each with its own model, in the same processes: a slow moment of the machine
falls on both. Times are summed over blocks of steps, which catches what happens every few steps only, and the
result is the median of the blocks' ratios. Votes are held by the clock, which the other loop's steps run
down too, so twice as many are charged to Rowlock as it would hold alone.

    python -m benchmarks.throughput --json throughput.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch
import torch.multiprocessing as mp
from rich.console import Console
from rich.table import Table
from torch.distributed import FileStore  # type: ignore[attr-defined]  # public, but not exported by its stub
from torch.nn.parallel import DistributedDataParallel

from rowlock.protocol import CheckpointConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainerConfig, WorkerConfig
from rowlock_trainer.channel import RankChannel, RankSetup
from rowlock_trainer.engine import loop
from rowlock_trainer.engine.builtin import build_task
from rowlock_trainer.engine.device import make_repeatable
from rowlock_trainer.engine.groups import ProcessGroups
from rowlock_trainer.engine.learner import Learner

WORLD_SIZE = 2
CPU = torch.device("cpu")
#: Steps of some 50 ms on two cores.
CONFIG = TrainerConfig(
    model=ModelConfig("gpt", layers=2, heads=4, width=128, context=128),
    data="python-text",
    global_batch_size=16,
    # More than are ever measured: the loop is left from outside.
    steps=1_000_000,
    optimizer=OptimizerConfig("adamw", 0.001),
    schedule=ScheduleConfig(),
    device="cpu",
)
#: Steps before the clock starts: allocators and caches fill, buckets are rebuilt.
WARMUP = 5


class EnoughError(Exception):
    """All steps are measured."""


class BareLoop:
    """The loop one writes by hand, a step at a time."""

    def __init__(self, learner: Learner, groups: ProcessGroups) -> None:
        self._learner = learner
        self._groups = groups
        self._model = DistributedDataParallel(learner.model, process_group=groups.data)
        rate = CONFIG.optimizer.learning_rate
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=rate, fused=True)

    def take_step(self, samples: int) -> None:
        """Take the optimizer step on the batch at the cursor."""
        (ids,) = self._learner.sampler.microbatches(
            samples,
            CONFIG.global_batch_size,
            rank=self._groups.rank,
            world_size=self._groups.world_size,
            accumulation=1,
        )
        loss = self._learner.task.loss(self._model, self._learner.task.train_batch(ids))
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()


@dataclass(frozen=True)
class TimedLearner(Learner):
    """Learns in Rowlock's loop, takes a bare step before each of its own, and notes the time of both.

    All that Rowlock's loop does from the beginning of one step to the beginning of the next counts as its.
    """

    bare: BareLoop
    steps: int
    #: Moments at which a step of Rowlock's loop was over, and at which the bare one after it was, by turns.
    moments: list[float] = field(default_factory=list)

    def take_step(self, model: Any, step: int, samples: int, *, rank: int, world_size: int) -> torch.Tensor:
        """Take a bare step, then Rowlock's."""
        self.moments.append(time.perf_counter())
        torch.use_deterministic_algorithms(False)
        self.bare.take_step(samples)
        torch.use_deterministic_algorithms(True)
        self.moments.append(time.perf_counter())
        if step > self.steps + WARMUP:
            raise EnoughError
        return super().take_step(model, step, samples, rank=rank, world_size=world_size)

    def seconds(self) -> dict[str, list[float]]:
        """Return the seconds of each measured step, by loop."""
        turns = [late - early for early, late in pairwise(self.moments)]
        return {"bare": turns[2 * WARMUP :: 2][: self.steps], "rowlock": turns[2 * WARMUP + 1 :: 2][: self.steps]}


def run(rank: int, folder: str, sink: str, steps: int) -> None:
    """Be one rank; rank 0 writes the seconds of each step."""
    make_repeatable(1)
    groups = ProcessGroups.build(FileStore(f"{folder}/store", WORLD_SIZE), rank, WORLD_SIZE, CPU)
    task = build_task(CONFIG)
    bare = BareLoop(Learner.build(CONFIG, task, CPU), groups)
    plain = Learner.build(CONFIG, task, CPU)
    learner = TimedLearner(CONFIG, task, CPU, plain.model, plain.optimizer, plain.sampler, bare, steps)
    checkpoint = CheckpointConfig(f"{folder}/checkpoints")
    worker = WorkerConfig("bench", "default", "uid", rank, WORLD_SIZE, 1, checkpoint, trainer=CONFIG)
    setup = RankSetup(worker, 1, rank, 0, WORLD_SIZE, "127.0.0.1", sink)
    with suppress(EnoughError):
        loop.train(setup, RankChannel(setup), learner, groups)
    groups.drop()
    if rank == 0:
        Path(f"{folder}/results.json").write_text(json.dumps(learner.seconds()))


def swallow(listener: socket.socket) -> None:
    """Read what ranks report and drop it, as far as reading goes like a launcher."""

    def drain(wire: socket.socket) -> None:
        while wire.recv(1 << 16):
            pass

    while True:
        wire, _ = listener.accept()
        threading.Thread(target=drain, args=(wire,), daemon=True).start()


def measure(steps: int) -> dict[str, list[float]]:
    """Return the seconds of each step, by loop."""
    with tempfile.TemporaryDirectory() as folder:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{folder}/sink")
        listener.listen()
        threading.Thread(target=swallow, args=(listener,), daemon=True).start()
        mp.spawn(run, (folder, f"{folder}/sink", steps), nprocs=WORLD_SIZE)  # type: ignore[no-untyped-call]
        results: dict[str, list[float]] = json.loads(Path(f"{folder}/results.json").read_text())
    return results


def blocks(seconds: list[float], size: int) -> list[float]:
    """Return the mean seconds a step of each whole block of `size` steps."""
    return [statistics.fmean(seconds[at : at + size]) for at in range(0, len(seconds) - size + 1, size)]


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--blocks", type=int, default=15, help="blocks of steps to measure")
    parser.add_argument("--steps", type=int, default=20, help="steps of each loop in a block")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    steps = measure(options.steps * options.blocks)
    means = {name: blocks(seconds, options.steps) for name, seconds in steps.items()}
    ratios = [bare / rowlock for bare, rowlock in zip(means["bare"], means["rowlock"], strict=True)]
    table = Table(title=f"GPT, {WORLD_SIZE} ranks, CPU, {options.blocks} blocks of {options.steps} steps")
    for column in ("loop", "ms/step", "samples/s", "ratio", "lowest", "highest"):
        table.add_column(column, justify="right")
    for name, seconds in means.items():
        typical = statistics.median(seconds)
        relative = [1.0] if name == "bare" else ratios
        spread = (f"{value:.3f}" for value in (statistics.median(relative), min(relative), max(relative)))
        table.add_row(name, f"{typical * 1000:.2f}", f"{CONFIG.global_batch_size / typical:.1f}", *spread)
    Console().print(table)
    if options.json:
        report = {
            "machine": {"cpus": os.cpu_count(), "arch": platform.machine(), "torch": torch.__version__},
            "steps_a_block": options.steps,
            "seconds_a_step": means,
            "throughput_ratio": statistics.median(ratios),
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
