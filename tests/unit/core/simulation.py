"""A small world for decide() to live in: an API server's objects, pods that start and die, launchers that obey.

It keeps to the rules the real ones keep: object names are unique, status writes need the newest resource
version, deletion takes a UID precondition, a launcher does what its last order says, an operator may die
between any two of its effects and may look at pods as they were a while ago. Time passes only when told.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rowlock.api.v1alpha1 import JobSpec, JobStatus
from rowlock.protocol import ExitCode, Order, Progress, RankExit, Report
from rowlock_operator.core.decide import decide
from rowlock_operator.core.model import (
    Claim,
    CreateClaim,
    CreatePod,
    CreateSecret,
    CreateService,
    Decision,
    DeleteJob,
    DeletePod,
    Job,
    Launcher,
    Observed,
    Pod,
)

TOTAL_STEPS = 40


@dataclass
class Process:
    """What runs in one pod: a launcher and its ranks, with the orders it has received."""

    worker: int
    uid: str
    report: Report = field(default_factory=Report)
    order: Order | None = None
    connected: bool = True
    last_seen: datetime = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class World:
    """All that exists, and the record of what must never happen."""

    spec: JobSpec
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    status: JobStatus = field(default_factory=JobStatus)
    version: int = 0
    pods: dict[int, Pod] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    claim: Claim | None = None
    service: bool = False
    secret: bool = False
    saved_step: int = 0
    faults: int = 0
    cuts: int = 0
    #: Which pod ran each worker's ranks in each generation.
    ran: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    history: list[JobStatus] = field(default_factory=list)
    _uids: Any = field(default_factory=lambda: itertools.count(1))

    # --- what the operator does ---

    def observe(self, pods: dict[int, Pod] | None = None) -> Observed:
        """The world as the operator sees it, with pods as they are or as they were."""
        seen = self.pods if pods is None else pods
        launchers = tuple(
            Launcher(one.worker, one.uid, one.connected, one.last_seen, one.report) for one in self.processes.values()
        )
        return Observed(tuple(seen.values()), self.claim, self.service, self.secret, launchers)

    def job(self) -> Job:
        return Job("ns", "crew", "job", 1, self.spec, self.status.model_copy(deep=True))

    def reconcile(self, crash_after: int = 99) -> Decision:
        """One round of the operator, which dies after `crash_after` effects."""
        decision = decide(self.job(), self.observe(), self.now)
        effects: list[Callable[[], None]] = [lambda: self.write(decision.status), lambda: self.publish(decision.order)]
        effects += [lambda action=action: self.carry_out(action) for action in decision.actions]
        for effect in effects[:crash_after]:
            effect()
        return decision

    def write(self, status: JobStatus) -> None:
        if status != self.status:
            self.version += 1
            self.status = status
            self.history.append(status)

    def publish(self, order: Order | None) -> None:
        for process in self.processes.values():
            if process.connected and order is not None:
                process.order = order

    def carry_out(self, action: Any) -> None:
        match action:
            case CreateClaim():
                self.claim = self.claim or Claim("crew-checkpoints", "Pending")
            case CreateService():
                self.service = True
            case CreateSecret():
                self.secret = True
            case CreatePod(worker):
                if worker not in self.pods:
                    self.pods[worker] = Pod(worker, f"pod-{worker}-{next(self._uids)}", "Pending")
            case DeletePod(worker, uid, grace):
                pod = self.pods.get(worker)
                if pod is not None and pod.uid == uid:
                    self._delete(pod, force=grace == 0)
            case DeleteJob():
                raise AssertionError("no TTL is set in the simulation")

    # --- what the cluster does ---

    def _delete(self, pod: Pod, *, force: bool) -> None:
        if force or pod.terminal:
            del self.pods[pod.worker]  # a forced deletion leaves the process running: a zombie
            if pod.terminal:
                self.processes.pop(pod.uid, None)
        elif pod.deleting_since is None:
            self.pods[pod.worker] = replace(pod, deleting_since=self.now)

    def start_pod(self, worker: int) -> None:
        pod = self.pods.get(worker)
        if pod is not None and pod.phase == "Pending" and pod.deleting_since is None:
            self.pods[worker] = replace(pod, phase="Running")
            self.processes[pod.uid] = Process(worker, pod.uid, last_seen=self.now)

    def finish_deletion(self, worker: int) -> None:
        pod = self.pods.get(worker)
        if pod is not None and pod.deleting_since is not None:
            del self.pods[worker]
            self.processes.pop(pod.uid, None)

    def bind_claim(self) -> None:
        if self.claim is not None:
            self.claim = replace(self.claim, phase="Bound")

    # --- what goes wrong ---

    def kill_pod(self, worker: int, **end: Any) -> None:
        pod = self.pods.get(worker)
        if pod is not None and not pod.terminal:
            self.faults += 1
            self.pods[worker] = replace(pod, phase="Failed", **{"exit_code": 137, "reason": "Error", **end})
            self._die(pod.uid)

    def vanish_pod(self, worker: int) -> None:
        pod = self.pods.pop(worker, None)
        if pod is not None:
            self.faults += 1
            self._die(pod.uid)

    def kill_rank(self, worker: int) -> None:
        pod = self.pods.get(worker)
        process = self.processes.get(pod.uid) if pod is not None else None
        if process is not None and process.report.phase in ("ready", "running"):
            self.faults += 1
            self._end(process, 1)

    def cut(self, worker: int) -> None:
        """The launcher's connection breaks; it trains on."""
        pod = self.pods.get(worker)
        process = self.processes.get(pod.uid) if pod is not None else None
        if process is not None:
            self.cuts += process.connected
            process.connected = False

    def mend(self) -> None:
        for process in self.processes.values():
            process.connected, process.last_seen = True, self.now

    def _die(self, uid: str) -> None:
        process = self.processes.pop(uid, None)
        if process is not None:
            self._break_peers(process.report.generation, uid)

    def _end(self, process: Process, code: int) -> None:
        end = RankExit(process.worker, code, self.saved_step, "boom", self.now.timestamp())
        process.report = replace(process.report, phase="ended", exits=(end,))
        self._break_peers(process.report.generation, process.uid)

    def _break_peers(self, generation: int, cause: str) -> None:
        for peer in self.processes.values():
            if peer.uid != cause and peer.report.generation == generation and peer.report.phase == "running":
                end = RankExit(peer.worker, ExitCode.PEER_LOST, self.saved_step, "reset", self.now.timestamp())
                peer.report = replace(peer.report, phase="ended", exits=(end,))

    # --- what launchers do ---

    def obey(self, uid: str) -> None:
        """One launcher does what its newest order says."""
        process = self.processes[uid]
        order = process.order
        if process.connected:
            process.last_seen = self.now
        if order is None:
            return
        mine = process.worker < len(order.members) and order.members[process.worker] == uid
        if order.phase == "leave":
            self._leave(process)
        elif order.phase == "save" and process.report.phase in ("ready", "running"):
            self._end(process, ExitCode.SAVED)
        elif order.phase == "run" and mine:
            self._run(process, order)
        elif order.generation > process.report.generation:
            process.report = Report()

    def _run(self, process: Process, order: Order) -> None:
        if order.generation > process.report.generation:
            store = f"store:{order.generation}" if process.worker == 0 else ""
            process.report = Report(generation=order.generation, phase="ready", store=store)
            self.ran.setdefault((order.generation, process.worker), set()).add(process.uid)
        elif process.report.phase == "ready" and order.store:
            assert order.store == f"store:{order.generation}"
            process.report = replace(process.report, phase="running", resumed_from=self.saved_step)

    def _leave(self, process: Process) -> None:
        pod = self.pods.get(process.worker)
        if pod is not None and pod.uid == process.uid and not pod.terminal:
            done = process.report.phase == "done"
            self.pods[process.worker] = replace(
                pod, phase="Succeeded" if done else "Failed", exit_code=0 if done else 75
            )
        self.processes.pop(process.uid, None)

    def train(self) -> None:
        """One stretch of training, if a whole crew stands in one generation: a checkpoint, or the end."""
        crew = [one for one in self.processes.values() if one.report.phase == "running"]
        generations = {one.report.generation for one in crew}
        if len(generations) != 1 or {one.worker for one in crew} != set(range(self.spec.workers)):
            return
        self.saved_step = min(TOTAL_STEPS, self.saved_step + 10)
        for one in crew:
            done = self.saved_step == TOTAL_STEPS
            progress = Progress(self.saved_step, TOTAL_STEPS, 1.0, 0.5, 10.0, 1.0, self.now.timestamp())
            one.report = replace(
                one.report, phase="done" if done else "running", progress=progress if one.worker == 0 else None
            )

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def settle_down(self, rounds: int = 60) -> None:
        """No more faults: everybody does their part, fairly, until nothing moves or `rounds` are over."""
        for _ in range(rounds):
            self.mend()
            self.reconcile()
            self.bind_claim()
            for worker in list(self.pods):
                self.start_pod(worker)
                self.finish_deletion(worker)
            self.reconcile()
            for uid in list(self.processes):
                self.obey(uid)
            self.train()
            self.wait(20)
            if self.status.phase in ("Succeeded", "Failed") and not self.processes:
                self.reconcile()
                return
