"""Processes for pods: the kubelet of a laptop.

A "pod" is a launcher in a session of its own, forked from a warm parent that has imported torch once for
all of them; its output goes to a log file. What is observed of it is a `Pod` like any other: Pending until
the fork is told, Running, then Succeeded or Failed with its exit code. Deleting one is SIGTERM, and SIGKILL
after its grace.
"""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rowlock.local.directory import LocalError
from rowlock_operator.core.model import Pod
from rowlock_trainer.launcher import process
from rowlock_trainer.launcher.reaper import Reaper
from rowlock_trainer.launcher.spawner import Spawner
from rowlock_trainer.launcher.wire import FromZygote, ToZygote
from rowlock_trainer.launcher.zygote import Warmth

#: What a forked pod runs, given its environment.
ENTRY = "rowlock.local.entry:run"
WARM_UP = "rowlock_trainer.engine.warm:import_all"


@dataclass
class _Process:
    worker: int
    uid: str
    grace_seconds: int
    pid: int = 0
    status: int | None = None
    refused: str = ""
    deleting_since: datetime | None = None
    kill_timer: asyncio.TimerHandle | None = None


class LocalPods:
    """All pods of one job on this machine.

    Make it before there is an event loop or a thread, because it forks; then `attach` it to the loop.

    Args:
        warm: Whether to import torch once for all pods; a job with a command needs none.
    """

    def __init__(self, *, warm: bool) -> None:
        self._reaper = Reaper()
        self._spawner = Spawner(Warmth(WARM_UP if warm else "", ENTRY), self._reaper)
        self._spawner.fork()
        self._processes: dict[int, _Process] = {}
        self._slots: dict[int, _Process] = {}
        self._next_slot = 0
        self._changed: Callable[[], None] = lambda: None
        self.cold: str = ""
        self.warm = asyncio.Event()

    def attach(self, changed: Callable[[], None]) -> None:
        """Serve on the running loop; `changed` is called when `observed` would answer anew."""
        self._changed = changed
        self._reaper.attach(asyncio.get_running_loop())
        self._spawner.attach(self._hear)

    def observed(self) -> tuple[Pod, ...]:
        """Return the pods that exist."""
        return tuple(_pod(one) for one in self._processes.values())

    def new_uid(self) -> str:
        """Return a UID for a pod about to be started."""
        return str(uuid.uuid4())

    def start(self, worker: int, uid: str, environ: dict[str, str], log: Path, *, grace_seconds: int) -> None:
        """Start the pod of a worker, unless it has one."""
        if worker in self._processes:
            return
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise LocalError(f"{log}: {error.strerror}; the worker's log cannot be written") from error
        pod = _Process(worker, uid, grace_seconds)
        self._processes[worker] = pod
        self._slots[self._next_slot] = pod
        command = ToZygote("start", rank=self._next_slot, environ=environ)
        self._next_slot += 1
        self._spawner.start(command, (output, os.dup(output)))

    def delete(self, worker: int, uid: str, grace_seconds: int | None) -> None:
        """Delete this very pod; one that has ended goes at once."""
        pod = self._processes.get(worker)
        if pod is None or pod.uid != uid:
            return
        if pod.status is not None or pod.refused:
            self._forget(pod)
        elif grace_seconds == 0:
            self._signal(pod, signal.SIGKILL)
        elif pod.deleting_since is None:
            pod.deleting_since = datetime.now(UTC)
            self._signal(pod, signal.SIGTERM)
            grace = pod.grace_seconds if grace_seconds is None else grace_seconds
            loop = asyncio.get_running_loop()
            pod.kill_timer = loop.call_later(grace, self._signal, pod, signal.SIGKILL)

    def close(self) -> None:
        """Kill whatever still runs."""
        for pod in self._processes.values():
            self._signal(pod, signal.SIGKILL)
        self._spawner.close()

    def _hear(self, fact: FromZygote) -> None:
        if fact.kind == "warm":
            self.warm.set()
        elif fact.kind == "cold":
            self.cold = fact.reason
            self.warm.set()
        elif (pod := self._slots.get(fact.rank)) is not None:
            self._take(pod, fact)
        self._changed()

    def _take(self, pod: _Process, fact: FromZygote) -> None:
        if fact.kind == "started":
            pod.pid = fact.pid
            if pod.deleting_since is not None:
                self._signal(pod, signal.SIGTERM)
        elif fact.kind == "refused":
            pod.refused = fact.reason
        elif fact.kind == "ended":
            pod.status = fact.status
            self._slots.pop(fact.rank, None)
            if pod.kill_timer is not None:
                pod.kill_timer.cancel()
            if pod.deleting_since is not None:
                self._forget(pod)

    def _forget(self, pod: _Process) -> None:
        if self._processes.get(pod.worker) is pod:
            del self._processes[pod.worker]
            self._changed()

    def _signal(self, pod: _Process, number: int) -> None:
        """Signal the launcher; its warm parent and ranks follow it (they die with it when it is killed)."""
        if pod.pid == 0 or pod.status is not None:
            return
        try:
            os.kill(pod.pid, number)
        except ProcessLookupError:
            return  # it has ended; the news is on its way


def _pod(one: _Process) -> Pod:
    if one.refused:
        return Pod(one.worker, one.uid, "Failed", reason="StartError", message=one.refused)
    if one.status is None:
        phase = "Running" if one.pid else "Pending"
        return Pod(
            one.worker,
            one.uid,
            phase,  # type: ignore[arg-type]
            ready=bool(one.pid),
            deleting_since=one.deleting_since,
            grace_seconds=one.grace_seconds,
        )
    code = process.exit_code(one.status)
    return Pod(
        one.worker,
        one.uid,
        "Succeeded" if code == 0 else "Failed",
        exit_code=code,
        reason="" if code == 0 else "Error",
        message=process.ending(one.status) if code > 128 else "",
        deleting_since=one.deleting_since,
        grace_seconds=one.grace_seconds,
    )
