"""A plain DistributedDataParallel loop with a snapshot of its own, for whoever gives it torchrun's environment.

It knows nothing of who started it, so that launchers can be compared by it. Each rank appends a line of JSON a step to
DIRECTORY/rank-N.jsonl: the step, when it was finished, and the milestones of its process (all in Unix time):

    container  the container's first process was started
    process    this process was started
    imported   torch was imported
    joined     the process group was formed
    wrapped    the model was wrapped in DistributedDataParallel
    loaded     the snapshot was loaded, or none was found

    python ddp_loop.py DIRECTORY
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

#: Steps between two snapshots, as the built-in trainer has between two checkpoints beside it.
SNAPSHOT_STEPS = 20
#: What a rank waits in a step, in seconds: on an accelerator the processor is mostly idle, and a machine whose cores
#: spin in a toy step would measure the toy.
STEP_SECONDS = 0.05


def started_at(pid: int | str) -> float:
    """Return when a process was started, in Unix time; the kernel counts it in hundredths of a second since boot."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


MILESTONES = {"container": started_at(1), "process": started_at("self")}

import torch  # noqa: E402 (what is above is measured without it)
import torch.distributed as dist  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

MILESTONES["imported"] = time.time()


def main() -> None:
    """Train until somebody ends it."""
    directory = Path(sys.argv[1])
    snapshot = directory / "snapshot.pt"
    directory.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    MILESTONES["joined"] = time.time()

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    replica = DistributedDataParallel(model)
    MILESTONES["wrapped"] = time.time()
    optimizer = torch.optim.AdamW(model.parameters())
    step = 0
    if snapshot.exists():
        state = torch.load(snapshot, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    MILESTONES["loaded"] = time.time()

    with (directory / f"rank-{rank}.jsonl").open("a", buffering=1) as record:
        while True:
            step += 1
            inputs = torch.randn(32, 64)
            loss = torch.nn.functional.cross_entropy(replica(inputs), inputs[:, :10].argmax(1))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            record.write(json.dumps({"step": step, "time": time.time(), **MILESTONES}) + "\n")
            if rank == 0 and step % SNAPSHOT_STEPS == 0:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                torch.save(state, directory / "snapshot.tmp")
                (directory / "snapshot.tmp").replace(snapshot)
            time.sleep(STEP_SECONDS)


if __name__ == "__main__":
    main()
