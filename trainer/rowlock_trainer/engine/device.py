"""Where a rank computes, and how that is made to repeat bit by bit."""

from __future__ import annotations

import os
from typing import Literal

import torch

from rowlock_trainer.engine.failure import ConfigError


def choose_device(wish: Literal["auto", "cpu", "cuda"], local_rank: int) -> torch.device:
    """Return the device of a rank.

    Args:
        wish: auto takes CUDA where a device is seen.
        local_rank: Index among the ranks of its worker; each has a GPU of its own.

    Raises:
        ConfigError: CUDA is wished for and there is none, or fewer GPUs than ranks.
    """
    if wish == "cpu" or (wish == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            "trainer.device cuda: no CUDA device is seen in this worker; request one in "
            "template.spec.containers[trainer].resources (nvidia.com/gpu), or set trainer.device to auto or cpu"
        )
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise ConfigError(
            f"processesPerWorker needs {local_rank + 1} GPUs or more, this worker sees {count}: request as many, "
            "or lower processesPerWorker"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def make_repeatable(threads: int) -> None:
    """Fix what rounding depends on: number of threads, and algorithms that add in a fixed order.

    Args:
        threads: Intra-op CPU threads.
    """
    # cuBLAS repeats bit by bit only with a fixed workspace; it reads this when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    torch.use_deterministic_algorithms(True)
    # Part of that mode is to fill every new tensor with NaN, which costs a pass over memory each and changes
    # no result of code that writes before it reads.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by a module property
