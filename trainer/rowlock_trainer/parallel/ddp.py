"""Data parallel: every rank holds the whole model, gradients are averaged over the crew.

DistributedDataParallel (Li et al., "PyTorch Distributed", VLDB 2020) puts gradients into buckets and reduces
each bucket while the backward pass goes on. Its buckets are where bitwise repeatability is won or lost: after
the first iteration it rebuilds them in the order in which gradients became ready. Another order of elements
is another place in the ring all-reduce, hence another order of summation, hence another rounding. A resumed
process would take its first step with first-iteration buckets where an undisturbed one has long had the
rebuilt ones. So every process settles its buckets before its first step, and all steps are alike.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

#: torch rebuilds its buckets at the start of the second forward pass, once.
_PASSES_TO_SETTLE = 2


def replicate(
    model: nn.Module,
    group: dist.ProcessGroup | None,
    device: torch.device,
    *,
    bucket_cap_mb: float | None = None,
) -> nn.Module:
    """Return the model wrapped for data parallel training; rank 0's weights become everyone's.

    Args:
        model: The model, on `device`.
        group: Group that averages gradients; None for a crew of one, which needs no wrapping.
        device: Where the model is.
        bucket_cap_mb: Largest gradient bucket, in MiB; torch's default when None.
    """
    if group is None:
        return model
    return DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        process_group=group,
        # Gradients live in the buckets: saves one copy of each, each step.
        gradient_as_bucket_view=True,
        bucket_cap_mb=bucket_cap_mb,
    )


def settle(model: nn.Module, forward: Callable[[], torch.Tensor]) -> None:
    """Bring the wrapped model into the state it has in all later steps. Collective; leaves no other trace.

    Args:
        model: As `replicate` returned it.
        forward: Computes the loss of a batch like those to come, through `model`.
    """
    if not isinstance(model, DistributedDataParallel):
        return
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for _ in range(_PASSES_TO_SETTLE):
        forward().backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def gradients(model: nn.Module, *, synchronise: bool) -> AbstractContextManager[None]:
    """Return the context for one forward and backward pass: with `synchronise`, gradients are averaged."""
    if synchronise or not isinstance(model, DistributedDataParallel):
        return nullcontext()
    context: AbstractContextManager[None] = model.no_sync()
    return context
