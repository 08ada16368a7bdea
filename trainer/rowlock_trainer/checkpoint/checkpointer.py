"""Save while training goes on; load what is proven good. What the engine holds.

`Checkpointer.save` copies this rank's share of the state and returns; a thread of every rank then plans,
writes and commits through torch.distributed.checkpoint, on a process group of its own, so that it never
meets the collectives of training. Callbacks run on the caller's thread only, from `save`, `poll`, `wait`
and `load_newest`: the engine needs no lock.

A save that fails for want of room or a broken disk does not stop training: the checkpoint before it is
still there, the failure is told, and the next save tries again. A save that fails because a peer is gone
raises `PeerLostError` from whichever of the four is called next.

The thread is a daemon: a rank that hangs in it because a peer hangs can still end. A group should be given
a timeout, after which its collectives break and the hang becomes a `PeerLostError`.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rowlock.protocol import CheckpointNote, Notice
from rowlock_trainer.checkpoint import dcp, layout, retention
from rowlock_trainer.checkpoint.crew import Crew
from rowlock_trainer.checkpoint.disk import Disk
from rowlock_trainer.checkpoint.errors import CheckpointError, PeerLostError, in_words
from rowlock_trainer.checkpoint.loading import Loaded, Loader
from rowlock_trainer.checkpoint.staging import StagedPlanner, Staging
from rowlock_trainer.checkpoint.state import flatten
from rowlock_trainer.checkpoint.writer import CheckpointWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch.distributed as dist

    from rowlock_trainer.checkpoint.manifest import JSON

#: One could be bad: the one before it must be there.
LEAST_KEPT = 2


@dataclass
class _Save:
    """A save under way, and what came of it."""

    step: int
    finished: threading.Event = field(default_factory=threading.Event)
    note: CheckpointNote | None = None
    error: CheckpointError | PeerLostError | None = None
    #: What was left undone beside a good checkpoint, in words.
    trouble: list[str] = field(default_factory=list)


class Checkpointer:
    """Checkpoints of one crew in one generation. Every rank has one and makes the same calls in the same order.

    Attributes:
        stalled_seconds: time that `save` has kept training waiting, all calls together.
        consecutive_failures: saves that failed since the last one that did not.
    """

    def __init__(
        self,
        root: Path,
        *,
        keep: int,
        generation: int,
        group: dist.ProcessGroup | None,
        on_verified: Callable[[CheckpointNote], None],
        on_notice: Callable[[Notice], None],
        disk: Disk | None = None,
        job_uid: str = "",
    ) -> None:
        """Prepare; nothing is read or written yet.

        Args:
            root: directory of the checkpoints, on a volume that every rank mounts.
            keep: newest checkpoints to keep, at least 2.
            generation: number of the crew's generation; of two generations of one job the later one has the say.
            group: gloo group of all ranks, used for nothing else; None for a single process.
            on_verified: told on every rank of each complete checkpoint.
            on_notice: told on rank 0 of what a person should see.
            disk: file operations; others than the plain ones serve fault drills.
            job_uid: UID of the job. Another job on the same volume counts its generations for itself.
        """
        if keep < LEAST_KEPT:
            raise ValueError(f"keep is {keep}; at least {LEAST_KEPT} checkpoints must be kept, as one may be bad")
        self.stalled_seconds = 0.0
        self.consecutive_failures = 0
        self._root = Path(root)
        self._keep = keep
        self._generation = generation
        self._owner = retention.Owner(generation, job_uid)
        self._crew = Crew(group)
        self._disk = disk or Disk()
        self._on_verified = on_verified
        self._on_notice = on_notice
        self._staging = Staging()
        self._save: _Save | None = None
        self._unusable: set[str] = set()
        #: Coordinator only: directories that were here when this crew began.
        self._inherited: set[str] = set()

    # --- saving ----------------------------------------------------------------------------------------

    def save(self, step: int, state: dict[str, Any], extra: dict[str, JSON]) -> None:
        """Stage `state` and begin to write it; the state may be changed as soon as this returns.

        A save still under way is waited for first; if that one failed, it is told and this one goes on.

        Args:
            step: step the state belongs to, the same on every rank.
            state: nested dicts of tensors (DTensors for shards) and JSON values. An entry may be present on
                some ranks only; a value present on several must be the same on all of them. Entries of one
                rank that a crew of another size can do without belong under ``rng``, keyed by rank.
            extra: JSON to keep beside it; rank 0's is kept.

        Raises:
            TypeError: a leaf of `state` is neither, or `extra` is no JSON; the message names the key.
            PeerLostError: another rank went away, now or during the save before.
        """
        began = time.monotonic()
        try:
            self._settle()
            flat = flatten(state)
            kept = _copied(extra)
            planner = self._staging.stage(flat, self._crew)
            self._save = _Save(step)
            writer = CheckpointWriter(self._disk, self._root, step, self._owner, planner, kept)
            threading.Thread(
                target=self._write, args=(self._save, writer, planner), name=f"checkpoint-{step}", daemon=True
            ).start()
        finally:
            self.stalled_seconds += time.monotonic() - began

    def wait(self) -> None:
        """Return once the save under way, if any, is complete and verified.

        Raises:
            CheckpointError: it failed; this has been told by `on_notice` too.
            PeerLostError: another rank went away.
        """
        error = self._settle()
        if error is not None:
            raise error

    def poll(self) -> None:
        """Tell what came of a save that has ended since the last call; never blocks. Raises PeerLostError."""
        if self._save is not None and self._save.finished.is_set():
            self._settle()

    def _settle(self) -> CheckpointError | None:
        """Wait for the save under way, tell what came of it, and return its failure. Raises PeerLostError."""
        save = self._save
        if save is None:
            return None
        save.finished.wait()
        self._save = None
        if isinstance(save.error, PeerLostError):
            raise save.error
        if save.error is not None:
            self.consecutive_failures += 1
            self._notify("CheckpointFailed", f"checkpoint-failed-{self._generation}-{save.step}", str(save.error))
            return save.error
        self.consecutive_failures = 0
        if save.note is not None:
            self._on_verified(save.note)
        for line in save.trouble:
            self._notify("Warning", f"checkpoint-cleanup-{self._generation}-{save.step}", line)
        return None

    def _write(self, save: _Save, writer: CheckpointWriter, planner: StagedPlanner) -> None:
        """Body of the thread: write, commit, clean up."""
        try:
            save.note = dcp.save(self._crew, writer, planner)
            if self._crew.leads:
                save.trouble = self._clean_up()
        except CheckpointError as error:
            save.error = self._give_up(save.step, writer, error)
        except PeerLostError as error:
            save.error = error
        except Exception as error:  # noqa: BLE001 (a thread has nobody to raise to: it is raised by wait())
            save.error = CheckpointError(f"checkpoint of step {save.step}: {in_words(error)}")
        finally:
            save.finished.set()

    def _clean_up(self) -> list[str]:
        """Remove what the new checkpoint has made superfluous; what goes wrong here does not undo it."""
        try:
            return [
                *retention.retain(
                    self._disk,
                    self._root,
                    self._keep,
                    self._owner,
                    unusable=self._unusable,
                    inherited=self._inherited,
                ),
                *retention.clear_leftovers(self._disk, self._root, self._owner, inherited=self._inherited),
            ]
        except OSError as error:
            return [f"old checkpoints under {self._root} could not be removed: {in_words(error)}"]

    def _give_up(self, step: int, writer: CheckpointWriter, error: CheckpointError) -> CheckpointError:
        """Return what went wrong, and give the space back: all ranks have stopped writing."""
        way_out = "make room on the volume or enlarge its claim" if error.storage_full else "look at the volume"
        text = f"checkpoint of step {step} {error}. Earlier checkpoints are untouched and training goes on; {way_out}"
        if writer.directory is not None and writer.directory.exists():
            try:
                self._disk.remove(writer.directory)
            except OSError as leftover:
                text += f". {writer.directory} is left, remove it by hand: {in_words(leftover)}"
        return CheckpointError(text, storage_full=error.storage_full)

    # --- loading ---------------------------------------------------------------------------------------

    def load_newest(self, state: dict[str, Any]) -> Loaded | None:
        """Load the newest checkpoint that is good on every byte into `state`, in place; all ranks agree on it.

        A bad one is told, renamed ``rejected-<name>``, and the one before it is tried. What earlier
        generations, and jobs before this one, left unfinished is removed.

        Args:
            state: as for `save`, and of the same keys, dtypes and global shapes; the crew may be of another
                size. Tensors are written into, values are replaced in their containers.

        Returns:
            What was loaded, None when there is no checkpoint at all.

        Raises:
            CheckpointError: there are checkpoints and none is good; the volume cannot be read; or, with
                `configuration` set, a good one does not fit `state` or is of another version of the format.
            PeerLostError: another rank went away.
        """
        flat = flatten(state)
        loader = Loader(self._crew, self._disk, self._root, self._rejected)
        loaded = loader.newest(flat)
        self._unusable |= loader.unusable
        for line in self._crew.tell(self._take_over):
            self._notify("Warning", f"checkpoint-cleanup-{self._generation}", line)
        return loaded

    def _take_over(self) -> list[str]:
        """Note what lies here, and remove what dead writers left unfinished; return what could not be."""
        self._inherited = {str(name) for name in layout.directories(self._root)}
        return retention.clear_leftovers(self._disk, self._root, self._owner, inherited=self._inherited)

    def _rejected(self, name: str, message: str) -> None:
        self._notify("CheckpointRejected", f"checkpoint-rejected-{self._generation}-{name}", message)

    def _notify(self, kind: Any, identity: str, message: str) -> None:
        if self._crew.leads:
            self._on_notice(Notice(identity, kind, message))


def _copied(extra: dict[str, JSON]) -> dict[str, JSON]:
    """Return a copy that later changes do not reach. Raises TypeError when it is no JSON, naming the entry."""
    copy: dict[str, JSON] = {}
    for key, value in extra.items():
        try:
            copy[key] = json.loads(json.dumps(value))
        except (TypeError, ValueError) as error:
            raise TypeError(f"extra[{key!r}] is no JSON: {error}") from None
    return copy
