"""How long a checkpoint keeps a training loop waiting: Rowlock, torch.save, dcp.save and dcp.async_save.

All four save the same state (a model of float32 tensors with an optimizer's two moments) in the same
processes, one after the other, interleaved over the rounds so that a busy disk hits all alike. Two numbers
for each: *blocked*, the time the call held the loop; and *slowed*, the time by which a stretch of steps long
enough for the checkpoint to become complete took longer than as many steps without one, which also counts
what a writer in the background takes from training. The first round of each is warm-up and is not counted.

torch.save does not fsync, and none of torch's three verifies anything; Rowlock hashes every byte and fsyncs.

    python benchmarks/checkpoint_stall.py --mib 256 --json checkpoint_stall.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from rich.console import Console
from rich.table import Table

from rowlock_trainer.checkpoint import Checkpointer

if TYPE_CHECKING:
    from collections.abc import Callable

#: Tensors in the state; of equal size, as the blocks of a transformer are.
LAYERS = 8
#: Steps timed without a checkpoint, whose median is what a step costs.
BARE_STEPS = 20
#: Step number of the save before the first round.
WARM_UP = 0

State = dict[str, Any]
#: ``(state, path, number)``: begins a save and returns what waits for its end.
Method = Any


def make_state(mib: int) -> State:
    """Return a state of `mib` MiB: model, first and second moments."""
    numbers = mib * 2**20 // 4 // (3 * LAYERS)
    return {
        part: {f"layer{layer}": torch.rand(numbers) for layer in range(LAYERS)}
        for part in ("model", "first_moment", "second_moment")
    }


def step(state: State, work: torch.Tensor) -> None:
    """Train a little: compute, and touch every number of the model as an optimizer does."""
    work @ work
    for tensor in state["model"].values():
        tensor.mul_(0.999)
    if dist.is_initialized():
        dist.all_reduce(work[0].clone())


def train(state: State, work: torch.Tensor, steps: int) -> None:
    """Train `steps` steps."""
    for _ in range(steps):
        step(state, work)


def methods(rank: int, group: dist.ProcessGroup | None, root: Path) -> dict[str, Method]:
    """Return the ways to save."""
    saver = Checkpointer(
        root / "rowlock", keep=2, generation=1, group=group, on_verified=lambda _: None, on_notice=print
    )

    def rowlock(state: State, path: Path, number: int) -> Callable[[], object]:
        saver.save(number, state, {})
        return saver.wait

    def torch_save(state: State, path: Path, number: int) -> Callable[[], object]:
        if rank == 0:
            torch.save(state, path)
        if group is not None:
            dist.barrier(group)
        return lambda: None

    def dcp_save(state: State, path: Path, number: int) -> Callable[[], object]:
        dcp.save(state, checkpoint_id=path, process_group=group)
        return lambda: None

    def dcp_async_save(state: State, path: Path, number: int) -> Callable[[], object]:
        return dcp.async_save(state, checkpoint_id=path, process_group=group).result

    return {"rowlock": rowlock, "torch.save": torch_save, "dcp.save": dcp_save, "dcp.async_save": dcp_async_save}


def measure(rank: int, ranks: int, mib: int, rounds: int, root: Path) -> dict[str, dict[str, float]]:
    """Return by method the medians over `rounds`, in seconds, as this rank sees them."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    group = None
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{root}/store", rank=rank, world_size=ranks)
        group = dist.new_group(backend="gloo")
    state, work = make_state(mib), torch.rand(512, 512)
    bare = statistics.median(timed(lambda: step(state, work)) for _ in range(BARE_STEPS))
    ways = methods(rank, group, root)
    steps = stretch(ways["rowlock"], state, group, bare)
    blocked: dict[str, list[float]] = {name: [] for name in ways}
    slowed: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        # Anew each round: what a step costs drifts with whatever else the machine does.
        plain = timed(lambda: train(state, work, steps))
        for name, way in ways.items():
            path = root / f"{name}-{number}"
            began = time.perf_counter()
            waiting = way(state, path, number + 1)
            blocked[name].append(time.perf_counter() - began)
            train(state, work, steps)
            waiting()
            slowed[name].append(time.perf_counter() - began - plain)
            if rank == 0 and path.exists():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if group is not None:
                dist.barrier(group)
    return {
        name: {"blocked": statistics.median(blocked[name][1:]), "slowed": statistics.median(slowed[name][1:])}
        for name in ways
    }


def stretch(way: Method, state: State, group: dist.ProcessGroup | None, bare: float) -> int:
    """Return how many steps to train after each save: twice what Rowlock's needs to be complete, on every rank."""
    began = time.perf_counter()
    way(state, Path(), WARM_UP)()
    steps = torch.tensor([math.ceil(2 * (time.perf_counter() - began) / bare)])
    if group is not None:
        dist.all_reduce(steps, op=dist.ReduceOp.MAX, group=group)
    return int(steps.item())


def timed(call: Callable[[], object]) -> float:
    """Return how long `call` takes, in seconds."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _rank_main(rank: int, ranks: int, mib: int, rounds: int, root: str) -> None:
    found = measure(rank, ranks, mib, rounds, Path(root))
    if rank == 0:
        (Path(root) / "result.json").write_text(json.dumps(found))


def run(ranks: int, mib: int, rounds: int, directory: str | None) -> dict[str, dict[str, float]]:
    """Measure with `ranks` processes; rank 0's view is returned."""
    with tempfile.TemporaryDirectory(dir=directory) as root:
        torch.multiprocessing.spawn(_rank_main, args=(ranks, mib, rounds, root), nprocs=ranks)
        found: dict[str, dict[str, float]] = json.loads((Path(root) / "result.json").read_text())
        return found


def show(console: Console, ranks: int, mib: int, found: dict[str, dict[str, float]]) -> None:
    """Print one table."""
    table = Table(title=f"{mib} MiB, {ranks} rank{'s' * (ranks > 1)}: milliseconds a checkpoint, medians")
    for column in ("method", "blocked", "times rowlock", "slowed", "times rowlock"):
        table.add_column(column, justify="left" if column == "method" else "right")
    base = found["rowlock"]
    for name, times in found.items():
        cells = [name]
        for key in ("blocked", "slowed"):
            cells += [f"{times[key] * 1000:.1f}", f"{times[key] / base[key]:.2f}"]
        table.add_row(*cells)
    console.print(table)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--mib", type=int, default=256, help="size of the state, in MiB")
    parser.add_argument("--rounds", type=int, default=5, help="checkpoints counted a method")
    parser.add_argument("--directory", help="where to write; decides which disk is measured")
    parser.add_argument("--json", type=Path, help="write the numbers here, in seconds")
    options = parser.parse_args()
    results = {}
    for ranks in (1, 2):
        results[f"ranks-{ranks}"] = run(ranks, options.mib, options.rounds, options.directory)
        show(Console(), ranks, options.mib, results[f"ranks-{ranks}"])
    if options.json:
        facts = {"mib": options.mib, "rounds": options.rounds, "torch": torch.__version__, "cpus": os.cpu_count()}
        options.json.write_text(json.dumps({**facts, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
