"""Does a good checkpoint fit the state that shall be loaded? Asked before a single tensor is touched.

Entries under ``rng`` are the exception: they belong to a rank, not to the model, and a crew of another
size has others. Those that find no partner are left alone, and the caller is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rowlock_trainer.checkpoint.index import Index
    from rowlock_trainer.checkpoint.manifest import JSON
    from rowlock_trainer.checkpoint.state import FlatState

#: Top-level entry of the state that holds per-rank entries, keyed by rank.
PER_RANK = "rng"
#: Keys named in a message; the count of the rest is told.
_NAMED = 3


@dataclass
class Misfit:
    """What one rank finds: keys it wants and the checkpoint lacks, and keys that are not alike."""

    wanted: set[str]
    missing: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)


def compare(state: FlatState, index: Index, values: dict[str, JSON]) -> Misfit:
    """Return how `state` of one rank differs from a checkpoint's tensors and values."""
    found = Misfit(wanted=state.keys())
    for key, tensor in state.tensors.items():
        here = (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        if key in index:
            there = (index[key].dtype, index[key].size)
            if here != there:
                found.differing.append(f"{key} ({_shape(*there)} there, {_shape(*here)} here)")
        elif key in values:
            found.differing.append(f"{key} (a value there, a tensor here)")
        elif not per_rank(key):
            found.missing.append(key)
    for key in state.values:
        if key in index:
            found.differing.append(f"{key} (a tensor there, a value here)")
        elif key not in values and not per_rank(key):
            found.missing.append(key)
    return found


def in_words(ranks: list[Misfit], index: Index, values: dict[str, JSON]) -> str:
    """Return how the state of all ranks together differs from the checkpoint; empty when it fits."""
    wanted = set().union(*(rank.wanted for rank in ranks))
    extra = [key for key in sorted(index.keys() | values.keys()) if key not in wanted and not per_rank(key)]
    parts = [
        _list("not in the checkpoint", sorted({key for rank in ranks for key in rank.missing})),
        _list("not in this job", extra),
        _list("not alike", sorted({key for rank in ranks for key in rank.differing})),
    ]
    return "; ".join(part for part in parts if part)


def per_rank(key: str) -> bool:
    """Whether an entry belongs to one rank and may lack a partner."""
    return key.startswith(f"{PER_RANK}.")


def _list(title: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f"{title}: {', '.join(keys[:_NAMED])}{more}" if keys else ""


def _shape(dtype: str, size: tuple[int, ...]) -> str:
    return f"{dtype}[{', '.join(map(str, size))}]"
