"""A small world for decide() to live in: an API server's objects, pods that start and die, launchers that obey.

It keeps to the rules the real ones keep: object names are unique, a status write needs the newest version of the
job, deletion takes a UID precondition, a launcher does what its last order says, a forced deletion leaves the
process running. Time passes only when told. What the operator knows of all this is in `onlooker`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rowlock.api.v1alpha1 import JobSpec, JobStatus
from rowlock.protocol import ExitCode, Order, Progress, RankExit, Report
from rowlock_operator.core.decide import decide
from rowlock_operator.core.model import (
    Claim,
    CreateClaim,
    CreateNetworkPolicy,
    CreatePod,
    CreateSecret,
    CreateService,
    Decision,
    DeleteJob,
    DeletePod,
    Job,
    Pod,
)
from rowlock_operator.core.shape import spec_hash
from tests.unit.core.onlooker import Onlooker

TOTAL_STEPS = 40
#: Seconds after which all news has arrived: a watch or a heartbeat that is later than this is a broken one.
NEWS_SECONDS = 10.0


@dataclass
class Process:
    """What runs in one pod: a launcher and its ranks, with the orders it has received."""

    worker: int
    uid: str
    report: Report = field(default_factory=Report)
    order: Order | None = None
    connected: bool = True
    #: How many workers the crew has that its ranks belong to.
    crew: int = 0


@dataclass
class World:
    """All that exists, and the record of what must never happen."""

    spec: JobSpec
    #: Containers beside the trainer run on until their pod is deleted.
    beside: bool = False
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    status: JobStatus = field(default_factory=JobStatus)
    spec_generation: int = 1
    version: int = 0
    pods: dict[int, Pod] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    #: Pods on dead nodes: only force removes them.
    stuck: set[str] = field(default_factory=set)
    claim: Claim | None = None
    service: bool = False
    secret: bool = False
    #: Jobs are to be isolated, and whether this one is.
    isolates: bool = False
    policy: bool = False
    deleted: bool = False
    saved_step: int = 0
    faults: int = 0
    cuts: int = 0
    #: Which pod ran each worker's ranks in each generation, and of which spec a generation's pods were.
    ran: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    ran_specs: dict[int, set[str]] = field(default_factory=dict)
    history: list[JobStatus] = field(default_factory=list)
    #: Phase and cause of every order given, with whether any pod that the operator saw lived then.
    orders: list[tuple[str, str, bool]] = field(default_factory=list)
    operator: Onlooker = field(init=False)
    _uids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.operator = Onlooker(self)

    # --- what the operator does ---

    def job(self) -> Job:
        """The job as the API server holds it."""
        return Job("ns", "crew", "job", self.spec_generation, self.spec, self.status.model_copy(deep=True))

    def reconcile(self, crash_after: int = 99) -> Decision:
        """One round of the operator, of which only the first `crash_after` effects come about."""
        operator = self.operator
        seen = operator.observe()
        decision = decide(operator.job, seen, self.now)
        spec = operator.job.spec
        if crash_after == 0:
            return decision
        if not self._write(decision.status):
            operator.hear_job()  # a conflict: nothing else is done, the next round begins with the newer job
            return decision
        effects: list[Callable[[], None]] = [lambda: self._publish(decision.order)]
        effects += [lambda action=action: self._carry_out(action, spec) for action in decision.actions]
        for effect in effects[: crash_after - 1]:
            effect()
        if decision.order is not None:
            alive = any(not pod.terminal for pod in seen.pods)
            self.orders.append((decision.order.phase, decision.status.phase, alive))
        return decision

    def restart_operator(self) -> None:
        """Another operator takes over: it lists all objects afresh and knows no launcher."""
        self.operator = Onlooker(self)

    def change(self, **fields: Any) -> None:
        """A person changes the spec."""
        changed = self.spec.model_copy(update=fields)
        if changed != self.spec:
            self.spec, self.spec_generation, self.version = changed, self.spec_generation + 1, self.version + 1

    def _write(self, status: JobStatus) -> bool:
        if status == self.operator.job.status:
            return True
        if self.operator.version != self.version:
            return False
        self.version += 1
        self.status = status
        self.history.append(status)
        self.operator.hear_job()  # the answer to the write
        return True

    def _publish(self, order: Order | None) -> None:
        for uid in self.operator.connected():
            process = self.processes.get(uid)
            if process is not None and process.connected and order is not None:
                process.order = order

    def _carry_out(self, action: Any, spec: JobSpec) -> None:
        match action:
            case CreateClaim():
                self.claim = self.claim or Claim("crew-checkpoints", "Pending")
            case CreateService():
                self.service = True
            case CreateSecret():
                self.secret = True
            case CreateNetworkPolicy():
                self.policy = True
            case CreatePod(worker):
                assert self.policy or not self.isolates, "a pod is created only where it is isolated"
                if worker not in self.pods:
                    uid = f"pod-{worker}-{next(self._uids)}"
                    self.pods[worker] = Pod(worker, uid, "Pending", spec_hash=spec_hash(spec))
            case DeletePod(worker, uid, grace):
                pod = self.pods.get(worker)
                if pod is not None and pod.uid == uid:
                    self._delete(pod, force=grace == 0)
            case DeleteJob():
                self.deleted = True

    # --- what the cluster does ---

    def _delete(self, pod: Pod, *, force: bool) -> None:
        if force or (pod.terminal and not pod.lingering):
            del self.pods[pod.worker]  # a forced deletion leaves the process running: a zombie
            if pod.terminal:
                self.processes.pop(pod.uid, None)
        elif pod.deleting_since is None:
            self.pods[pod.worker] = replace(pod, deleting_since=self.now)

    def start_pod(self, worker: int) -> None:
        pod = self.pods.get(worker)
        if pod is not None and pod.phase == "Pending" and pod.deleting_since is None:
            self.pods[worker] = replace(pod, phase="Running", running_since=self.now)
            self.processes[pod.uid] = Process(worker, pod.uid)

    def finish_deletion(self, worker: int) -> None:
        pod = self.pods.get(worker)
        if pod is not None and pod.deleting_since is not None and pod.uid not in self.stuck:
            del self.pods[worker]
            self._die(pod.uid)

    def bind_claim(self) -> None:
        if self.claim is not None:
            self.claim = replace(self.claim, phase="Bound")

    # --- what goes wrong ---

    def kill_pod(self, worker: int, **end: Any) -> None:
        pod = self.pods.get(worker)
        if pod is not None and not pod.terminal and pod.uid not in self.stuck:
            self.faults += 1
            end = {"exit_code": 137, "reason": "Error", "lingering": self.beside, **end}
            self.pods[worker] = replace(pod, phase="Failed", running_since=None, **end)
            self._die(pod.uid)

    def vanish_pod(self, worker: int) -> None:
        pod = self.pods.pop(worker, None)
        if pod is not None:
            self.faults += 1
            self._die(pod.uid)

    def kill_rank(self, worker: int) -> None:
        process = self.process_of(worker)
        if process is not None and process.report.phase in ("ready", "running"):
            self.faults += 1
            self._end(process, 1)

    def lose_node(self, worker: int) -> None:
        """The node dies: its pod is marked for deletion, and stays."""
        pod = self.pods.get(worker)
        if pod is not None and pod.phase == "Running" and pod.uid not in self.stuck:
            self.faults += 1
            self.stuck.add(pod.uid)
            self.pods[worker] = replace(pod, deleting_since=pod.deleting_since or self.now)
            self._die(pod.uid)

    def drain(self, worker: int) -> None:
        """The pod is asked to go: SIGTERM; the whole crew saves at the next step and its ranks end."""
        pod, process = self.pods.get(worker), self.process_of(worker)
        if pod is None or process is None or pod.terminal or pod.deleting_since is not None:
            return
        self.faults += 1
        self.pods[worker] = replace(pod, deleting_since=self.now)
        process.report = replace(process.report, leaving=True)
        if process.report.phase == "running":
            self._end_crew(process.report.generation, ExitCode.SAVED)

    def cut(self, worker: int) -> None:
        """The launcher's connection breaks; it trains on."""
        process = self.process_of(worker)
        if process is not None:
            self.cuts += process.connected
            process.connected = False

    def mend(self) -> None:
        for process in self.processes.values():
            process.connected = True

    def process_of(self, worker: int) -> Process | None:
        """What runs in the pod that a worker has now."""
        pod = self.pods.get(worker)
        return self.processes.get(pod.uid) if pod is not None else None

    def _die(self, uid: str) -> None:
        process = self.processes.pop(uid, None)
        if process is not None and process.report.phase == "running":
            self._end_crew(process.report.generation, ExitCode.PEER_LOST)

    def _end(self, process: Process, code: int) -> None:
        was_running = process.report.phase == "running"
        end = RankExit(process.worker, code, self.saved_step, "boom", self.now.timestamp())
        process.report = replace(process.report, phase="ended", exits=(end,))
        if was_running:
            self._end_crew(process.report.generation, ExitCode.PEER_LOST)

    def _end_crew(self, generation: int, code: int) -> None:
        for peer in self.processes.values():
            if peer.report.generation == generation and peer.report.phase == "running":
                # A user's command cannot say that it was a peer who went: it ends with what it ends with.
                known = 1 if code == ExitCode.PEER_LOST and self.spec.command is not None else code
                end = RankExit(peer.worker, known, self.saved_step, "reset", self.now.timestamp())
                peer.report = replace(peer.report, phase="ended", exits=(end,))

    # --- what launchers do ---

    def obey(self, uid: str) -> None:
        """One launcher does what its newest order says."""
        process = self.processes[uid]
        order = process.order
        if order is None or process.report.leaving:
            return
        mine = process.worker < len(order.members) and order.members[process.worker] == uid
        if order.phase == "leave":
            self._leave(process)
        elif order.phase == "save" and process.report.phase == "running":
            self._end_crew(process.report.generation, ExitCode.SAVED)
        elif order.phase == "save" and process.report.phase == "ready":
            self._end(process, ExitCode.SAVED)
        elif order.phase == "run" and mine:
            self._run(process, order)
        elif order.generation > process.report.generation and process.report.phase != "idle":
            process.report = Report()

    def _run(self, process: Process, order: Order) -> None:
        if order.generation > process.report.generation:
            store = f"store:{order.generation}" if process.worker == 0 else ""
            process.report = Report(generation=order.generation, phase="ready", store=store)
            process.crew = order.workers
            self.ran.setdefault((order.generation, process.worker), set()).add(process.uid)
            made_from = next((pod.spec_hash for pod in self.pods.values() if pod.uid == process.uid), None)
            if made_from is not None:
                self.ran_specs.setdefault(order.generation, set()).add(made_from)
        elif process.report.phase == "ready" and order.store:
            assert order.store == f"store:{order.generation}"
            process.report = replace(process.report, phase="running", resumed_from=self.saved_step)

    def _leave(self, process: Process) -> None:
        pod = self.pods.get(process.worker)
        if pod is not None and pod.uid == process.uid and not pod.terminal:
            done = process.report.phase == "done"
            phase, code = ("Succeeded", 0) if done else ("Failed", 75)
            self.pods[process.worker] = replace(
                pod, phase=phase, exit_code=code, running_since=None, lingering=self.beside
            )
        self.processes.pop(process.uid, None)

    def train(self) -> None:
        """One stretch of training, if a whole crew stands in one generation: a checkpoint, or the end."""
        crew = [one for one in self.processes.values() if one.report.phase == "running"]
        if len({(one.report.generation, one.crew) for one in crew}) != 1:
            return
        if {one.worker for one in crew} != set(range(crew[0].crew)):
            return
        self.saved_step = min(TOTAL_STEPS, self.saved_step + 10)
        for one in crew:
            done = self.saved_step == TOTAL_STEPS
            progress = Progress(self.saved_step, TOTAL_STEPS, 1.0, 0.5, 10.0, 1.0, self.now.timestamp())
            one.report = replace(
                one.report, phase="done" if done else "running", progress=progress if one.worker == 0 else None
            )

    # --- time ---

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        if (self.now - self.operator.heard_all_at).total_seconds() > NEWS_SECONDS:
            self.operator.hear_all()

    def settle_down(self, rounds: int = 150) -> None:
        """No more faults: everybody does their part, fairly, until nothing moves or `rounds` are over.

        When nothing moves, only the operator's own alarm does: a verdict without one is waited for in vain.
        """
        for _ in range(rounds):
            before = self._picture()
            self.mend()
            self.operator.hear_all()
            self.reconcile()
            self.bind_claim()
            for worker in list(self.pods):
                self.start_pod(worker)
                self.finish_deletion(worker)
            self.operator.hear_all()
            decision = self.reconcile()
            for uid in list(self.processes):
                self.obey(uid)
            self.train()
            self.now += timedelta(seconds=1)
            if self._picture() == before:
                if decision.requeue_after is None:
                    return
                self.now += timedelta(seconds=decision.requeue_after)

    def _picture(self) -> object:
        processes = {uid: (one.report, one.order, one.connected) for uid, one in self.processes.items()}
        return self.version, dict(self.pods), processes, self.claim, self.policy
