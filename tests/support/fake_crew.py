"""Launchers that speak the real protocol and train nothing.

Each stands for the launcher of one pod: it greets the coordinator with the job's own token, obeys orders, and
fails, finishes or falls silent when a test says so. All of them live on one event loop in one thread; a
test's thread only ever asks that loop to do something.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import websockets

from rowlock import protocol
from rowlock.protocol import CheckpointNote, ExitCode, Hello, Notice, Order, Progress, RankExit, Report

if TYPE_CHECKING:
    from collections.abc import Coroutine

#: Steps the fake training claims to have in all.
TOTAL_STEPS = 1000
#: How soon a launcher tries again after a lost connection, in seconds.
RECONNECT_SECONDS = 0.05


@dataclass
class FakeLauncher:
    """One worker's launcher. Its methods run on the crew's loop; tests go through `FakeCrew`."""

    url: str
    token: str
    namespace: str
    job: str
    worker: int
    pod_uid: str
    #: Called with the exit code when the launcher ends by itself.
    ended: Callable[[int], None]
    report: Report = field(default_factory=Report)
    order: Order | None = None
    #: Orders in the sequence they came, for tests that look at it.
    orders: list[Order] = field(default_factory=list)
    #: The same, by connection: the last list is of the one that is open now.
    orders_by_line: list[list[Order]] = field(default_factory=list)
    connected: bool = False
    refusals: int = 0

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Connect, again and again, until told to leave."""
        address = f"{self.url}/v1alpha1/jobs/{self.namespace}/{self.job}/workers/{self.worker}"
        headers = {"Authorization": f"Bearer {self.token}"}
        while True:
            try:
                async with websockets.connect(
                    address.replace("http", "ws", 1), additional_headers=headers, proxy=None
                ) as socket:
                    self.connected = True
                    if await self._converse(socket):
                        return
            except websockets.InvalidStatus:
                self.refusals += 1
            except (OSError, TimeoutError, websockets.WebSocketException):
                self.connected = False
            self.connected = False
            await asyncio.sleep(RECONNECT_SECONDS)

    def say(self, **changes: Any) -> None:
        """Change the report and send it."""
        self.report = replace(self.report, **changes)
        self._changed.set()

    async def _converse(self, socket: websockets.ClientConnection) -> bool:
        hello = Hello(protocol.PROTOCOL_VERSION, self.worker, self.pod_uid, f"10.0.0.{self.worker}")
        await socket.send(protocol.encode(hello))
        await socket.send(protocol.encode(self.report))
        reporting = asyncio.create_task(self._reporting(socket))
        self.orders_by_line.append([])
        try:
            async for text in socket:
                order = protocol.decode(text, Order)
                self.order = order
                self.orders.append(order)
                self.orders_by_line[-1].append(order)
                self._obey(order)
                if order.phase == "leave":
                    self.ended(ExitCode.DONE if self.report.phase == "done" else ExitCode.SAVED)
                    return True
        finally:
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError, websockets.WebSocketException):
                await reporting
        return False

    async def _reporting(self, socket: websockets.ClientConnection) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(protocol.HEARTBEAT_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            await socket.send(protocol.encode(self.report))

    def _obey(self, order: Order) -> None:
        if order.phase == "run":
            if order.generation > self.report.generation:
                store = f"10.0.0.{self.worker}:29400" if self.worker == 0 else ""
                self.report = Report(order.generation, "ready", store, checkpoint=self.report.checkpoint)
            if order.store and self.report.phase == "ready":
                self.report = replace(self.report, phase="running", resumed_from=0)
        elif order.phase == "save" and self.report.phase in ("starting", "ready", "running"):
            self.report = replace(self.report, phase="ended", exits=(self._exit(ExitCode.SAVED, "saved"),))
        elif order.phase == "hold" and order.generation > self.report.generation:
            self.report = Report(order.generation, "idle")
        self._changed.set()

    def _exit(self, code: int, reason: str, traceback: str = "") -> RankExit:
        step = self.report.progress.step if self.report.progress is not None else -1
        return RankExit(self.worker, code, step, reason, time.time(), traceback)

    def rank_ended(self, code: int, reason: str, traceback: str = "") -> None:
        """Report that this worker's rank ended other than by finishing."""
        self.say(phase="ended", exits=(self._exit(code, reason, traceback),))

    def progress(self, step: int) -> None:
        """Report a step."""
        self.say(
            progress=Progress(step, TOTAL_STEPS, step / 100, 1 / (1 + step), 50.0, TOTAL_STEPS - step, time.time())
        )


class FakeCrew:
    """All fake launchers of a test."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-crew", daemon=True)
        self._thread.start()
        self._launchers: dict[str, FakeLauncher] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def close(self) -> None:
        """End all launchers and the thread."""
        self._ask(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(
        self, url: str, token: str, namespace: str, job: str, worker: int, pod_uid: str, ended: Callable[[int], None]
    ) -> None:
        """Start the launcher of a pod."""
        self._ask(self._start(url, token, namespace, job, worker, pod_uid, ended))

    def kill(self, pod_uid: str) -> None:
        """End a pod's launcher the hard way: its connection breaks, it says nothing. No-op when it is gone."""
        self._ask(self._kill(pod_uid))

    def of(self, namespace: str, job: str) -> list[FakeLauncher]:
        """The launchers of a job that run, by worker."""
        found = [one for one in list(self._launchers.values()) if (one.namespace, one.job) == (namespace, job)]
        return sorted(found, key=lambda one: one.worker)

    def worker(self, namespace: str, job: str, worker: int) -> FakeLauncher:
        """The launcher of one worker that runs."""
        return next(one for one in self.of(namespace, job) if one.worker == worker)

    def rank_fails(
        self, launcher: FakeLauncher, code: int = ExitCode.FAILED, reason: str = "boom", traceback: str = ""
    ) -> None:
        """One rank fails; every other one of its crew loses a peer."""
        self._call(launcher.rank_ended, code, reason, traceback)
        self.peers_lose(launcher)

    def peers_lose(self, lost: FakeLauncher) -> None:
        """All launchers of a crew but one report broken collectives."""
        for other in self.of(lost.namespace, lost.job):
            if other.pod_uid != lost.pod_uid and other.report.phase == "running":
                self._call(other.rank_ended, ExitCode.PEER_LOST, "connection closed by peer")

    def step(self, namespace: str, job: str, step: int) -> None:
        """Rank 0 reports a step."""
        self._call(self.worker(namespace, job, 0).progress, step)

    def checkpoint(self, namespace: str, job: str, step: int) -> None:
        """Worker 0 reports a verified checkpoint."""
        launcher = self.worker(namespace, job, 0)
        note = CheckpointNote(step, launcher.report.generation, 4096, time.time(), f"step-{step}")
        self._call(lambda: launcher.say(checkpoint=note))

    def notice(self, namespace: str, job: str, notice: Notice) -> None:
        """Worker 0 has something to tell a person."""
        launcher = self.worker(namespace, job, 0)
        self._call(lambda: launcher.say(notices=(*launcher.report.notices, notice)))

    def finish(self, namespace: str, job: str) -> None:
        """All ranks of a job end well."""
        for launcher in self.of(namespace, job):
            self._call(lambda one=launcher: one.say(phase="done"))

    async def _start(self, *arguments: Any) -> None:
        launcher = FakeLauncher(*arguments)
        self._launchers[launcher.pod_uid] = launcher
        self._tasks[launcher.pod_uid] = asyncio.create_task(launcher.run())

    async def _kill(self, pod_uid: str) -> None:
        self._launchers.pop(pod_uid, None)
        task = self._tasks.pop(pod_uid, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _end_all(self) -> None:
        for pod_uid in list(self._tasks):
            await self._kill(pod_uid)

    def _ask(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        async def call() -> None:
            function(*arguments)

        self._ask(call())
