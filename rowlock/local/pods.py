"""Processes for pods: the kubelet of a laptop.

A "pod" is a launcher in a session of its own, forked from a warm parent that has imported torch once for
all of them; its output goes to a log file. What is observed of it is a `Pod` like any other: Pending until
the fork is told, Running, then Succeeded or Failed with its exit code and the last words it wrote to its
termination log. Deleting one is SIGTERM, and SIGKILL after its grace.
"""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rowlock.local.errors import refused
from rowlock_operator.core.model import Pod
from rowlock_trainer.launcher import process
from rowlock_trainer.launcher.main import ENV_TERMINATION_LOG
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
    spec_hash: str
    grace_seconds: int
    #: Where its launcher says why it ended.
    last_words: Path
    pid: int = 0
    running_since: datetime | None = None
    message: str = ""
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
        self._attached = False
        self._closed = False
        self._changed: Callable[[], None] = lambda: None
        self._warm = False
        #: Starts, by the pod's UID, that wait for the warm parent to have imported all.
        self._waiting: dict[str, tuple[ToZygote, int]] = {}
        #: Why the warm parent cannot be had, "" while it can.
        self.cold = ""

    def attach(self, changed: Callable[[], None]) -> None:
        """Serve on the running loop; `changed` is called when `observed` would answer anew."""
        self._changed = changed
        self._attached = True
        self._reaper.attach(asyncio.get_running_loop())
        self._spawner.attach(self._hear)

    def observed(self) -> tuple[Pod, ...]:
        """Return the pods that exist."""
        return tuple(_pod(one) for one in self._processes.values())

    def new_uid(self) -> str:
        """Return a UID for a pod about to be started."""
        return str(uuid.uuid4())

    def start(
        self, worker: int, uid: str, environ: dict[str, str], logs: Path, *, spec_hash: str, grace_seconds: int
    ) -> None:
        """Start the pod of a worker, unless it has one.

        Args:
            worker: Index of the worker.
            uid: From `new_uid`.
            environ: Environment of the launcher.
            logs: Directory of ``worker-N.log``, which is added to, and ``worker-N.end``, which is this pod's own.
            spec_hash: Fingerprint of the spec it is made from.
            grace_seconds: Seconds between SIGTERM and SIGKILL.

        Raises:
            LocalError: The log files cannot be written.
        """
        if worker in self._processes:
            return
        log, last_words = logs / f"worker-{worker}.log", logs / f"worker-{worker}.end"
        try:
            last_words.write_bytes(b"")  # a launcher writes only where there is a file, as in a container
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise refused(
                Path(error.filename or log), error, "the worker's log cannot be written; make room"
            ) from error
        pod = _Process(worker, uid, spec_hash, grace_seconds, last_words)
        self._processes[worker] = pod
        self._slots[self._next_slot] = pod
        environ = environ | {ENV_TERMINATION_LOG: str(last_words.resolve())}
        command = ToZygote("start", rank=self._next_slot, environ=environ)
        self._next_slot += 1
        if self._warm:
            self._spawner.start(command, (output, os.dup(output)))
        else:
            self._waiting[uid] = (command, output)

    def delete(self, worker: int, uid: str, grace_seconds: int | None) -> None:
        """Delete this very pod; one that has ended goes at once."""
        pod = self._processes.get(worker)
        if pod is None or pod.uid != uid:
            return
        if uid in self._waiting:
            # Nothing runs yet: a person who changes their mind during the imports need not wait for them.
            command, output = self._waiting.pop(uid)
            os.close(output)
            self._slots.pop(command.rank)
            self._forget(pod)
        elif pod.status is not None or pod.refused:
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
        """Kill whatever still runs, the warm parent too; more than once is as good as once."""
        if self._closed:
            return
        self._closed = True
        for pod in self._processes.values():
            self._signal(pod, signal.SIGKILL)
        if self._attached:
            self._spawner.close()
            # The end of what was just killed must not meet a loop that is being closed: Python complains aloud.
            asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        else:
            # There was no event loop yet, so nobody has reaped it and its number is certainly still its own.
            os.kill(self._spawner.zygote_pid, signal.SIGKILL)
            os.waitpid(self._spawner.zygote_pid, 0)

    def _hear(self, fact: FromZygote) -> None:
        if fact.kind == "warm":
            self._warm = True
            for command, output in self._waiting.values():
                self._spawner.start(command, (output, os.dup(output)))
            self._waiting.clear()
        elif fact.kind == "cold":
            self.cold = fact.reason
        elif (pod := self._slots.get(fact.rank)) is not None:
            self._take(pod, fact)
        self._changed()

    def _take(self, pod: _Process, fact: FromZygote) -> None:
        if fact.kind == "started":
            pod.pid, pod.running_since = fact.pid, datetime.now(UTC)
            if pod.deleting_since is not None:
                self._signal(pod, signal.SIGTERM)
        elif fact.kind == "refused":
            pod.refused = fact.reason
        elif fact.kind == "ended":
            pod.status, pod.message = fact.status, _last_words(pod, fact.status)
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


def _last_words(pod: _Process, status: int) -> str:
    """Return what the launcher wrote before it ended, or how it ended when it could not."""
    try:
        said = pod.last_words.read_text(errors="replace").strip()
    except OSError:
        said = ""  # the log directory was taken away; its exit code still tells
    return said or (process.ending(status) if os.WIFSIGNALED(status) else "")


def _pod(one: _Process) -> Pod:
    alive = Pod(
        one.worker,
        one.uid,
        "Running" if one.pid else "Pending",
        ready=bool(one.pid),
        deleting_since=one.deleting_since,
        grace_seconds=one.grace_seconds,
        running_since=one.running_since,
        spec_hash=one.spec_hash,
    )
    if one.refused:
        return replace(alive, phase="Failed", ready=False, reason="StartError", message=one.refused)
    if one.status is None:
        return alive
    code = process.exit_code(one.status)
    return replace(
        alive,
        phase="Succeeded" if code == 0 else "Failed",
        ready=False,
        running_since=None,
        exit_code=code,
        reason="" if code == 0 else "Error",
        message=one.message,
    )
