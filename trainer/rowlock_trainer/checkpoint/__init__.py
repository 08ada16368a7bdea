"""The checkpoint room: save asynchronously, verify every byte, choose, load, retain.

Built on the extension points of torch.distributed.checkpoint (https://docs.pytorch.org/docs/stable/distributed.checkpoint.html):
its planner decides who writes what and reshards on load, the storage is ours. On disk there are raw tensor
bytes and JSON, never a pickle, so a checkpoint from elsewhere cannot run code. Torch's planner exchanges
pickled plans between ranks over the crew's own process group; that stays inside the trust boundary.

`Checkpointer` is for the engine. `list_checkpoints` and `verify` need no torch, so a laptop may ask;
`weights_digest` does. What needs torch is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rowlock_trainer.checkpoint.errors import BadCheckpointError, CheckpointError, PeerLostError
from rowlock_trainer.checkpoint.manifest import JSON
from rowlock_trainer.checkpoint.verify import list_checkpoints, verify

if TYPE_CHECKING:
    from rowlock_trainer.checkpoint.checkpointer import Checkpointer
    from rowlock_trainer.checkpoint.digest import weights_digest
    from rowlock_trainer.checkpoint.loading import Loaded

__all__ = [
    "JSON",
    "BadCheckpointError",
    "CheckpointError",
    "Checkpointer",
    "Loaded",
    "PeerLostError",
    "list_checkpoints",
    "verify",
    "weights_digest",
]

_HOMES = {"Checkpointer": "checkpointer", "Loaded": "loading", "weights_digest": "digest"}


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
