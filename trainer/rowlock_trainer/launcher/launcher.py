"""The launcher: obeys the newest order, reports what became of it, and knows when to go.

Orders are level-triggered. Only the newest counts, at every point the launcher compares it with what is
there and moves one step toward it, and a wait for dying ranks is followed by looking at the order anew. The
launcher never decides that training failed; it tells, and waits for the next order. It goes when it is told
to leave, when it is told to end (SIGTERM), when its work is done and nobody asks any more, or when it cannot
start ranks at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from rowlock.protocol import CheckpointNote, ExitCode, Notice, Order, RankExit, Report
from rowlock_trainer.channel import RankState
from rowlock_trainer.launcher import fold
from rowlock_trainer.launcher.link import Link
from rowlock_trainer.launcher.output import OutputWriter
from rowlock_trainer.launcher.rank_server import RankServer
from rowlock_trainer.launcher.ranks import CommandRanks, Means, Ranks, TrainerRanks
from rowlock_trainer.launcher.settings import Settings
from rowlock_trainer.launcher.spawner import Spawner
from rowlock_trainer.launcher.wire import FromZygote

log = logging.getLogger("rowlock.launcher")

#: How long a worker whose ranks are done waits to be told to leave, in seconds: longer than an operator
#: takes to be rescheduled to another node (Kubernetes evicts after 300 s), and then ends by itself.
LINGER_SECONDS = 600.0
#: Part of the grace period kept back for the last report and for ending, in seconds.
PARTING_SECONDS = 2.0
#: How long the last report, and the end of killed ranks, are waited for, in seconds.
_LAST_REPORT_SECONDS = 1.0
_KILL_SECONDS = 5.0
#: After this long a rank that does not die of SIGKILL is worth a line in the log, in seconds.
_STUBBORN_SECONDS = 10.0


@dataclass(frozen=True)
class End:
    """How the launcher ends."""

    code: int
    reason: str
    traceback: str = ""


class Launcher:
    """One worker's launcher, on the event loop of the main thread."""

    def __init__(self, settings: Settings, spawner: Spawner, writer: OutputWriter) -> None:
        self._settings = settings
        self._spawner = spawner
        self._server = RankServer(self._heard)
        self._link = Link(settings, self.report, self._ordered)
        self._means = Means(settings, spawner, self._server, writer, self._changed)
        self._order: Order | None = None
        self._ordered_anew = asyncio.Event()
        self._generation = 0
        self._ranks: Ranks | None = None
        self._checkpoint: CheckpointNote | None = None
        self._notices: tuple[Notice, ...] = ()
        self._own_exits: tuple[RankExit, ...] = ()
        self._leaving = False
        self._parting: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    async def run(self) -> End:
        """Serve until the end; return how it ended."""
        loop = asyncio.get_running_loop()
        await self._server.start()
        self._spawner.attach(self._told)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end, signal.Signals(number))
        tasks = [self._task(self._link.run(), "line"), self._task(self._obey_for_ever(), "orders")]
        try:
            end = await self._end
            await self._part(end)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._spawner.close()
            self._server.stop()
        return end

    def report(self) -> Report:
        """Return the whole state of this worker."""
        ranks = self._ranks.ranks if self._ranks else []
        report = fold.fold(self._generation, ranks)
        if self._own_exits:
            report = replace(report, phase="ended", exits=(*report.exits, *self._own_exits))
        return replace(report, checkpoint=self._checkpoint, notices=self._notices, leaving=self._leaving)

    # --- what is heard ---------------------------------------------------------------------------------

    def _ordered(self, order: Order) -> None:
        if self._order is not None and order.generation < self._order.generation:
            log.warning("order of generation %d ignored: %d is known", order.generation, self._order.generation)
            return
        if order != self._order:
            log.info("ordered: %s in generation %d%s", order.phase, order.generation, _because(order.reason))
        self._order = order
        self._ordered_anew.set()
        if order.phase == "leave":
            self._finish(self._departure(f"ordered to leave{_because(order.reason)}"))

    def _heard(self, state: RankState) -> bool:
        if self._ranks is None or not self._ranks.heard(state):
            return False
        self._notices = fold.add_notices(self._notices, state)
        self._checkpoint = fold.newest_checkpoint(self._checkpoint, self._ranks.ranks)
        return True

    def _told(self, fact: FromZygote) -> None:
        if fact.kind == "cold":
            number = self._settings.config.worker * self._settings.config.processes_per_worker
            cold = RankExit(number, fact.code, -1, fact.reason, time.time(), fact.traceback)
            self._own_exits = (fold.in_short(cold),)
            self._finish(End(fact.code, fact.reason, fact.traceback))
        elif self._ranks is not None:
            self._ranks.told(fact)

    def _changed(self) -> None:
        self._link.changed()
        self._linger_if_done()

    # --- obeying ---------------------------------------------------------------------------------------

    async def _obey_for_ever(self) -> None:
        while True:
            await self._ordered_anew.wait()
            self._ordered_anew.clear()
            if self._order is not None:
                await self._obey(self._order)

    async def _obey(self, order: Order) -> None:
        if order.phase == "leave":
            return  # acted on when it came
        if order.generation > self._generation:
            await self._move_on(order)
            if order is not self._order:
                return  # the wait was long enough for a newer order, which is looked at next
        if order.phase == "run" and self._ranks is None and not self._leaving and self._has_place(order):
            self._ranks = self._new_ranks(order)
            await self._ranks.begin()
        if self._ranks is not None and order.phase == "run" and order.store:
            await self._ranks.join(order.store)
        if self._ranks is not None and order.phase == "save":
            self._ranks.save()

    def _has_place(self, order: Order) -> bool:
        """Whether this very pod holds its worker's place; one that was given up, or came early, starts nothing."""
        worker = self._settings.config.worker
        return not order.members or order.members[worker : worker + 1] == (self._settings.pod_uid,)

    async def _move_on(self, order: Order) -> None:
        """Leave older generations behind."""
        if self._ranks is not None:
            self._ranks.kill(f"generation {order.generation} was ordered")
            ended = self._task(self._ranks.wait_until_ended(), "old ranks")
            await asyncio.wait([ended], timeout=_STUBBORN_SECONDS)
            if not ended.done():
                log.warning("ranks of generation %d do not die of SIGKILL: a hung volume?", self._generation)
            await ended
            self._ranks = None
        self._generation = order.generation
        self._changed()

    def _new_ranks(self, order: Order) -> Ranks:
        kind = TrainerRanks if self._settings.config.trainer is not None else CommandRanks
        return kind(self._means, order)

    # --- going -----------------------------------------------------------------------------------------

    def _asked_to_end(self, number: signal.Signals) -> None:
        if self._leaving:
            self._finish(self._departure(f"{number.name} came a second time"))
            return
        log.info("%s: saving and leaving", number.name)
        self._leaving = True
        self._link.changed()
        self._parting = self._task(self._save_and_go(number), "parting")

    async def _save_and_go(self, number: signal.Signals) -> None:
        if self._ranks is not None and not self._ranks.all_ended:
            self._ranks.save()
            grace = max(0.0, self._settings.config.grace_seconds - PARTING_SECONDS)
            ended = self._task(self._ranks.wait_until_ended(), "saving ranks")
            await asyncio.wait([ended], timeout=grace)
            ended.cancel()
        self._finish(self._departure(f"{number.name}: told to end"))

    def _departure(self, reason: str) -> End:
        """Return an end that is nobody's fault: 0 when this worker's part is done, else to be started again."""
        done = self._ranks is not None and self._ranks.done
        return End(ExitCode.DONE if done else ExitCode.SAVED, reason)

    def _finish(self, end: End) -> None:
        if not self._end.done():
            self._end.set_result(end)

    def _linger_if_done(self) -> None:
        done = self._ranks is not None and self._ranks.done
        if done and self._linger is None:
            end = End(ExitCode.DONE, f"done, and nobody asked for {LINGER_SECONDS:.0f} s")
            self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._finish, end)
        elif not done and self._linger is not None:
            self._linger.cancel()
            self._linger = None

    async def _part(self, end: End) -> None:
        """Leave nothing behind: no rank alive, no report unsaid."""
        log.info("ending with exit code %d: %s", end.code, end.reason)
        if self._ranks is not None and not self._ranks.all_ended:
            self._ranks.kill("its launcher ends")
            with contextlib.suppress(TimeoutError):  # what SIGKILL does not end, the kernel ends with us
                async with asyncio.timeout(_KILL_SECONDS):
                    await self._ranks.wait_until_ended()
        await self._link.flush(_LAST_REPORT_SECONDS)

    def _task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task whose failure ends the launcher instead of leaving it half alive."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._check)
        return task

    def _check(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("the launcher's task %r broke", task.get_name(), exc_info=error)
        self._finish(End(ExitCode.FAILED, f"the launcher broke: {type(error).__name__}: {error}"))


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""
