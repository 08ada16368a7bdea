"""The ranks of one generation on this worker, from their start to the end of the last.

There are two kinds. The built-in trainer's ranks are started at once, prepare, open the store and wait for
it; they are spoken to over their channel. A command's ranks know nothing of us: they are started when the
store is known, get it in torchrun's environment, and are spoken to by signals.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rowlock.protocol import ExitCode, Order, RankExit
from rowlock_trainer.channel import RankCommand, RankSetup, RankState
from rowlock_trainer.launcher.output import OutputWriter, open_output
from rowlock_trainer.launcher.rank import Rank, describe_exit, exit_of
from rowlock_trainer.launcher.rank_server import RankServer
from rowlock_trainer.launcher.settings import Settings
from rowlock_trainer.launcher.spawner import Spawner
from rowlock_trainer.launcher.torchrun import choose_master_port, torchrun_environ
from rowlock_trainer.launcher.wire import FromZygote, ToZygote

log = logging.getLogger("rowlock.launcher")

#: How long a dead rank's pipes and channel are listened to, in seconds. They end with the rank, unless a
#: process that left its process group holds them open.
_LAST_WORDS_SECONDS = 0.25
#: Exit codes of a command that ended by the SIGTERM it was sent: by itself, and as a shell says it.
_TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Means:
    """What ranks are started and heard with; the same for every generation."""

    settings: Settings
    spawner: Spawner
    server: RankServer
    writer: OutputWriter
    #: To be called whenever a rank's state or ending changes.
    changed: Callable[[], None]


class Ranks:
    """The ranks of one generation on this worker. Subclasses say how they are started and spoken to."""

    def __init__(self, means: Means, order: Order) -> None:
        config = means.settings.config
        self._means = means
        self._concluding: set[asyncio.Task[None]] = set()
        self._all_ended = asyncio.Event()
        self._saving = False
        self._store = ""
        self.generation = order.generation
        self._world_size = order.workers * config.processes_per_worker
        first = config.worker * config.processes_per_worker
        numbers = range(first, min(first + config.processes_per_worker, self._world_size))
        self.ranks = [Rank(number, number - first, RankState(order.generation, number)) for number in numbers]
        self._check_whether_all_ended()

    @property
    def all_ended(self) -> bool:
        """Whether no process is left."""
        return self._all_ended.is_set()

    @property
    def done(self) -> bool:
        """Whether all have finished."""
        return bool(self.ranks) and all(rank.done for rank in self.ranks)

    async def begin(self) -> None:
        """Bring the ranks to where they wait for the store."""
        raise NotImplementedError

    async def join(self, store: str) -> None:
        """Let the ranks go, with this store."""
        raise NotImplementedError

    def save(self) -> None:
        """Have the ranks save and end; kill those that have not within the grace period."""
        if self._saving:
            return
        self._saving = True
        self._ask_to_save()
        grace = self._means.settings.config.grace_seconds
        asyncio.get_running_loop().call_later(grace, self.kill, f"had not saved after {grace:g} s")

    def kill(self, why: str) -> None:
        """Kill all that have not ended. Their state is on disk."""
        if self.all_ended:
            return
        for rank in self.ranks:
            if not rank.ended:
                rank.killed_because = why
        self._means.spawner.signal(signal.SIGKILL)

    async def wait_until_ended(self) -> None:
        """Wait until no process is left."""
        await self._all_ended.wait()

    def heard(self, state: RankState) -> bool:
        """Take what a rank says over its channel; return False when it is none of these."""
        rank = self._rank(state.rank)
        if rank is None or state.generation != self.generation:
            return False
        rank.state = state
        self._means.changed()
        return True

    def told(self, fact: FromZygote) -> None:
        """Take what the warm parent tells."""
        rank = self._rank(fact.rank)
        if rank is None or rank.ended:
            return
        if fact.kind == "started":
            rank.pid = fact.pid
            log.info("rank %d started, process %d", rank.number, fact.pid)
        elif fact.kind == "refused":
            code = ExitCode.SAVED if self._saving else ExitCode.FAILED
            self._end(rank, exit_of(rank, code, f"not started: {fact.reason}"))
        elif fact.kind == "ended" and rank.pid in (0, fact.pid):
            task = asyncio.create_task(self._conclude(rank, fact), name=f"end of rank {rank.number}")
            self._concluding.add(task)
            task.add_done_callback(self._concluding.discard)

    def _ask_to_save(self) -> None:
        raise NotImplementedError

    def _setup(self, rank: Rank) -> RankSetup:
        settings = self._means.settings
        return RankSetup(
            worker=settings.config,
            generation=self.generation,
            rank=rank.number,
            local_rank=rank.local,
            world_size=self._world_size,
            address=settings.address,
            socket=self._means.server.path,
            fault=settings.fault,
            launcher_pid=os.getpid(),
        )

    async def _start(self, rank: Rank, command: ToZygote) -> None:
        if rank.ended:
            return
        out, out_descriptor = await open_output(rank.number, self._means.writer)
        err, err_descriptor = await open_output(rank.number, self._means.writer)
        rank.output = (out, err)
        self._means.spawner.start(command, (out_descriptor, err_descriptor))

    async def _conclude(self, rank: Rank, fact: FromZygote) -> None:
        """Hear a dead rank out, then note how it ended."""
        last_words = [output.closed for output in rank.output]
        last_words.append(asyncio.ensure_future(self._means.server.said_all(rank.number)))
        await asyncio.wait(last_words, timeout=_LAST_WORDS_SECONDS)
        last_words[-1].cancel()
        for output in rank.output:
            output.close()
        self._end(rank, self._ending(rank, fact))

    def _ending(self, rank: Rank, fact: FromZygote) -> RankExit | None:
        return describe_exit(rank, fact, self._means.settings.config.command)

    def _end(self, rank: Rank, ending: RankExit | None) -> None:
        rank.ended, rank.exit = True, ending
        log.info("rank %d ended: %s", rank.number, f"{ending.reason} ({ending.code})" if ending else "done")
        self._check_whether_all_ended()
        self._means.changed()

    def _check_whether_all_ended(self) -> None:
        if all(rank.ended for rank in self.ranks):
            self._all_ended.set()

    def _rank(self, number: int) -> Rank | None:
        return next((rank for rank in self.ranks if rank.number == number), None)


class TrainerRanks(Ranks):
    """Ranks of the built-in trainer."""

    async def begin(self) -> None:
        """Fork the ranks; they prepare and report that they are ready."""
        self._means.server.command(RankCommand(save=self._saving))
        for rank in self.ranks:
            await self._start(rank, ToZygote("start", rank.number, setup=self._setup(rank)))

    async def join(self, store: str) -> None:
        """Name the store to the ranks."""
        if store != self._store:
            self._store = store
            self._means.server.command(RankCommand(store=store, save=self._saving))

    def _ask_to_save(self) -> None:
        self._means.server.command(RankCommand(store=self._store, save=True))


class CommandRanks(Ranks):
    """Ranks that execute the job's command."""

    async def begin(self) -> None:
        """Choose where the store will be, if rank 0 lives here. Nothing is started yet."""
        for rank in self.ranks:
            store = ""
            if rank.number == 0:
                address = self._means.settings.address
                store = f"{f'[{address}]' if ':' in address else address}:{choose_master_port()}"
            rank.state = replace(rank.state, phase="ready", store=store)
        self._means.changed()

    async def join(self, store: str) -> None:
        """Start the command with the store in its environment."""
        if self._store:
            return
        self._store = store
        if refusal := self._make_directory():
            for rank in self.ranks:
                self._end(rank, exit_of(rank, ExitCode.STORAGE, refusal))
            return
        command = self._means.settings.config.command
        for rank in self.ranks:
            if self._saving:
                self._end(rank, exit_of(rank, ExitCode.SAVED, "stopped before it was started"))
                continue
            environ = torchrun_environ(self._setup(rank), store)
            await self._start(rank, ToZygote("start", rank.number, command=command, environ=environ))
            rank.state = replace(rank.state, phase="running")
        self._means.changed()

    def _make_directory(self) -> str:
        """Make the job's directory on the volume, which a command is told of; return why that cannot be done, or ""."""
        directory = Path(self._means.settings.config.checkpoint.directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return f"ROWLOCK_CHECKPOINT_DIR {directory} cannot be made: {error.strerror or error}"
        return ""

    def kill(self, why: str) -> None:
        """Kill all that have not ended, and do not start those that wait."""
        super().kill(why)
        self._end_unstarted(why)

    def _ask_to_save(self) -> None:
        self._end_unstarted("stopped before it was started", ExitCode.SAVED)
        if not self.all_ended:
            self._means.spawner.signal(signal.SIGTERM)

    def _end_unstarted(self, why: str, code: int = ExitCode.FAILED) -> None:
        if not self._store:
            self._store = os.devnull  # from now on there is nothing to join
            for rank in self.ranks:
                self._end(rank, exit_of(rank, code, why))

    def _ending(self, rank: Rank, fact: FromZygote) -> RankExit | None:
        """A command that ends by the SIGTERM it was sent, or with 0 after it, was stopped; it is not done.

        It may have finished in that very moment. Taking it as stopped costs a start that finds nothing left
        to do; taking it as done would lose the rest of the training.
        """
        ending = super()._ending(rank, fact)
        if self._saving and (ending is None or ending.code == _TERMINATED):
            return exit_of(rank, ExitCode.SAVED, "ended by the SIGTERM it was sent, as ordered")
        return ending
