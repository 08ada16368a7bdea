"""The ranks that save and load together, and how they agree.

Every rank of the group calls the same method at the same point. What one rank cannot do, all hear of: an
exception is carried to every rank and raised on each, so that none is left waiting in the next collective.
A collective that breaks itself means that a peer is gone: `PeerLostError`.

Small Python objects travel between ranks by torch's object collectives, which pickle. That is inside the
trust boundary: the bytes come from the crew's own process group, never from a file.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
import torch.distributed as dist

from rowlock_trainer.checkpoint.errors import CheckpointError, PeerLostError, in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class _Attempt(Generic[T]):
    """The result of a call, or the words of its failure, in a form that travels."""

    def __init__(self, rank: int, make: Callable[[], T]) -> None:
        self.value: T | None = None
        self.failure: CheckpointError | None = None
        try:
            self.value = make()
        except CheckpointError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001 (whatever it is: the other ranks wait and must hear of it)
            self.failure = CheckpointError(f"rank {rank}: {in_words(error)}")

    def result(self) -> T:
        if self.failure is not None:
            raise self.failure
        return self.value  # type: ignore[return-value]  # T may itself be None


class Crew:
    """The ranks of one gloo group; a crew of one when there is no group."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self.rank = dist.get_rank(group) if group is not None else 0
        self.size = dist.get_world_size(group) if group is not None else 1

    @property
    def leads(self) -> bool:
        """Whether this rank is the coordinator, the one that lists, commits and cleans up."""
        return self.rank == 0

    def tell(self, make: Callable[[], T]) -> T:
        """Let the coordinator call `make` and return its result on every rank; its exception likewise."""
        held: list[Any] = [_Attempt(0, make) if self.leads else None]
        if self.group is not None:
            with broken_means_peer_lost():
                dist.broadcast_object_list(held, src=dist.get_global_rank(self.group, 0), group=self.group)
        result: T = held[0].result()
        return result

    def collect(self, make: Callable[[], T]) -> list[T]:
        """Let every rank call `make`; return the results by rank. The lowest rank's exception is raised on all."""
        own = _Attempt(self.rank, make)
        if self.group is None:
            return [own.result()]
        held: list[Any] = [None] * self.size
        with broken_means_peer_lost():
            dist.all_gather_object(held, own, group=self.group)
        return [attempt.result() for attempt in held]

    def unanimous(self, holds: bool) -> bool:
        """Return whether `holds` is true on every rank."""
        if self.group is None:
            return holds
        vote = torch.tensor([int(holds)])
        with broken_means_peer_lost():
            dist.all_reduce(vote, op=dist.ReduceOp.MIN, group=self.group)
        return bool(vote.item())


@contextmanager
def broken_means_peer_lost() -> Iterator[None]:
    """Turn the RuntimeError of a broken collective into PeerLostError."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(f"a collective of the checkpoint group broke: {error}") from error
