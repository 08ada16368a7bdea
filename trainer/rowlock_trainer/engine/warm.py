"""Everything a rank imports, imported once in the warm parent.

A rank is forked from a parent that has done this, so a new rank is there in hundredths of a second instead
of several seconds. A process that holds threads must not be forked: only the thread that forks lives on in
the child, and whatever lock another held stays locked. So nothing here may start one.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

#: In this order. Below the engine: what torch imports late, in the first DDP, the first optimizer step, the
#: first save; found by comparing sys.modules before and after a rank's whole life.
_MODULES = (
    "numpy",
    "torch",
    "torch._dynamo",
    "torch.distributed",
    "torch.distributed.checkpoint",
    "rowlock_trainer.engine.rank",
)


class WarmParentError(RuntimeError):
    """The warm parent cannot be forked from."""


def import_all() -> None:
    """Import all that a rank needs.

    Raises:
        WarmParentError: A thread was started on the way.
    """
    # OpenBLAS starts its threads when numpy is imported, unless told that one is enough.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for module in _MODULES:
        importlib.import_module(module)
    threads = thread_count()
    if threads != 1:
        raise WarmParentError(
            f"the warm parent holds {threads} threads after its imports, so its children could stall; "
            "set OPENBLAS_NUM_THREADS=1 and OMP_NUM_THREADS=1 before it starts"
        )


def thread_count() -> int:
    """Return the number of threads of this process as the kernel counts them; 1 where it does not say."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if sys.platform == "linux" else 1
