"""The process groups of one generation: built when the crew is whole, dropped when it is not.

A generation is a new membership, and a process group cannot change its members. So the engine owns the
groups as one value with a beginning and an end, and a process that outlives its generation drops them and
builds the next. Three groups, because three things talk at once without waiting for each other:

- ``data`` carries gradients: NCCL where the model is on CUDA, else Gloo;
- ``control`` carries small agreements between steps, always on the CPU (on a CPU job it is ``data``
  itself: both are used by the training thread only, in the same order on every rank);
- ``checkpoint`` belongs to the thread that writes checkpoints while training goes on.

A crew of one has no groups; None says so, and every user takes it to mean "I am everyone".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]  # public, but not exported by its stub

#: Longest a rank waits in a collective before it takes its peers for lost. A dead process is noticed at once
#: by its closed connection; this is for a machine that vanished or a peer that hangs, and it must exceed the
#: slowest step, evaluation and save. torch's own default for NCCL is the same ten minutes.
COLLECTIVE_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class ProcessGroups:
    """The groups of one generation, and this rank's place in them."""

    rank: int
    world_size: int
    data: dist.ProcessGroup | None = None
    control: dist.ProcessGroup | None = None
    checkpoint: dist.ProcessGroup | None = None

    @classmethod
    def build(
        cls,
        store: Store,
        rank: int,
        world_size: int,
        device: torch.device,
        timeout: timedelta = COLLECTIVE_TIMEOUT,
        *,
        generation: int = 0,
    ) -> ProcessGroups:
        """Meet the other ranks and connect to them.

        Args:
            store: The crew's store. Keys of each generation have a prefix of their own.
            rank: This rank.
            world_size: Ranks of the crew.
            device: Where the model is.
            timeout: Longest wait in a collective.
            generation: Number of the generation.

        Raises:
            RuntimeError: The others did not come, or `drop` was not called on the groups before.
        """
        if world_size == 1:
            return cls(rank, world_size)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend,
            store=PrefixStore(f"generation-{generation}/", store),
            rank=rank,
            world_size=world_size,
            timeout=timeout,
            device_id=device if device.type == "cuda" else None,
        )
        data = dist.group.WORLD
        control = data if backend == "gloo" else _new_gloo_group(timeout)
        return cls(rank, world_size, data, control, _new_gloo_group(timeout))

    def drop(self) -> None:
        """Close the groups, broken or not; the process may then build the next generation's."""
        if self.data is not None and dist.is_initialized():
            dist.destroy_process_group()


def _new_gloo_group(timeout: timedelta) -> dist.ProcessGroup:
    group = dist.new_group(backend="gloo", timeout=timeout)
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(f"torch.distributed.new_group of all ranks returned {group!r}, which is no process group")
    return group


def sum_over(group: dist.ProcessGroup | None, values: list[float]) -> list[float]:
    """Return the sums of `values` over the ranks of a CPU group, in double precision."""
    if group is None:
        return values
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums, group=group)
    return list(sums.tolist())
