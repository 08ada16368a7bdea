"""`rowlock run`: the operator's loop on one machine.

Observe, decide, write the status, give the order, carry out the actions, and wait for the next thing to
happen: the same round and the same decide() as in a cluster, with a directory for the API server and
processes for pods. Ctrl-C is spec.suspend, so that leaving and coming back is nothing special either; so are
SIGTERM, and SIGHUP when the terminal goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

from rowlock.api.v1alpha1 import TRAINER_CONTAINER, JobSpec
from rowlock.local.directory import JobDirectory
from rowlock.local.errors import LocalError
from rowlock.local.faults import Faults
from rowlock.local.history import History
from rowlock.local.pods import LocalPods
from rowlock.local.timeline import Timeline
from rowlock.local.view import View
from rowlock.protocol import (
    ENV_ADDRESS,
    ENV_CONFIG,
    ENV_COORDINATOR,
    ENV_FAULT,
    ENV_POD_UID,
    ENV_TOKEN_FILE,
    encode,
)
from rowlock_operator.coordinator import Coordinator
from rowlock_operator.core.decide import decide
from rowlock_operator.core.model import (
    Action,
    Claim,
    CreateClaim,
    CreatePod,
    CreateSecret,
    Decision,
    DeletePod,
    Event,
    Job,
    Observed,
    Refusal,
)
from rowlock_operator.core.shape import spec_hash
from rowlock_operator.resources.worker_config import worker_config

HOST = "127.0.0.1"
#: The trainer's history, beside its checkpoints.
METRICS_FILE = "metrics.jsonl"
#: Seconds between two writes of a status in which only progress numbers moved.
MINOR_WRITE_SECONDS = 1.0
#: Seconds after which what this machine refused (a full disk, most likely) is tried again.
RETRY_SECONDS = 2.0


class LocalRunner:
    """Runs one job on this machine until it has finished or is told to leave.

    Args:
        job: The job, as this run begins with it.
        directory: Where it lives; locked and made by the caller.
        pods: The processes, made before the event loop; closed when the run is over.
        view: Where the run is shown; it must not raise.
        faults: Faults to inject.
    """

    def __init__(self, job: Job, directory: JobDirectory, pods: LocalPods, view: View, faults: Faults) -> None:
        self._metrics = directory.checkpoints / METRICS_FILE
        self.timeline = Timeline(self._logged)
        self._job = job
        self._directory = directory
        self._pods = pods
        self._view = view
        self._faults = faults
        self._refusals: tuple[Refusal, ...] = ()
        self._told: set[str] = set()
        self._written = datetime.min.replace(tzinfo=UTC)
        self._signals: Counter[signal.Signals] = Counter()

    async def run(self) -> Job:
        """Run the job; return it as it is when this run is over.

        Raises:
            LocalError: This machine stands in the way.
        """
        self._wake = asyncio.Event()
        job, token = self._job, self._directory.token()

        async def token_of(namespace: str, name: str) -> str | None:
            return token if (namespace, name) == (job.namespace, job.name) else None

        self._coordinator = Coordinator(token_of=token_of, on_change=lambda *_: self._wake.set())
        self._heed_signals()
        self._pods.attach(self._wake.set)
        try:
            self._port = await self._coordinator.start(HOST, 0)
            self._listening_since = datetime.now(UTC)
            return await self._rounds(job)
        finally:
            self._pods.close()
            await self._coordinator.stop()

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Under nohup the terminal may go away: that wish stands.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, self._signalled, number)

    def _logged(self, generation: int) -> History:
        try:
            return History.read(self._metrics).of(generation)
        except (OSError, KeyError, TypeError):
            return History.empty(generation)  # a history that cannot be read tells less, and stops nothing

    def _signalled(self, number: signal.Signals) -> None:
        self._signals[number] += 1
        self._wake.set()

    @property
    def _impatient(self) -> bool:
        """Whether a person asked twice. A lost terminal says so more than once by itself, kernel and shell both."""
        return any(self._signals[number] > 1 for number in (signal.SIGINT, signal.SIGTERM))

    async def _rounds(self, job: Job) -> Job:
        while True:
            self._wake.clear()
            if self._pods.cold:
                raise LocalError(self._pods.cold)
            if self._signals:
                job = replace(job, spec=job.spec.model_copy(update={"suspend": True}))
            job, decision = self._round(job)
            if self._over(job):
                self._write(job)
                return job
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience(decision)):
                    await self._wake.wait()

    def _patience(self, decision: Decision) -> float | None:
        """Return after how many seconds to look again though nothing happened; None for never."""
        if not self._refusals:
            return decision.requeue_after
        return min(RETRY_SECONDS, decision.requeue_after if decision.requeue_after is not None else RETRY_SECONDS)

    def _round(self, job: Job) -> tuple[Job, Decision]:
        """One round of the loop, in the order that decide() asks for."""
        launchers = self._coordinator.launchers(job.namespace, job.name)
        pods = self._pods.observed()
        self.timeline.look(job.status.generation, pods, launchers, self._faults.struck(pods))
        observed = Observed(
            pods,
            claim=self._claim(job),
            service=True,
            secret=True,
            launchers=launchers,
            listening_since=self._listening_since,
            refusals=self._refusals,
        )
        decision = decide(job, observed, datetime.now(UTC))
        changed, job = decision.status != job.status, replace(job, status=decision.status)
        if changed:
            self._write_in_turn(job, minor=decision.minor)
        if decision.order is not None:
            self._coordinator.publish(job.namespace, job.name, decision.order)
        self._carry_out(job, decision.actions)
        for event in decision.events:
            self._tell(event)
        self._view.show(job, launchers)
        return job, decision

    def _over(self, job: Job) -> bool:
        if self._impatient:
            return True
        alive = any(not pod.terminal for pod in self._pods.observed())
        return job.status.phase == "Suspended" or (job.status.phase in ("Succeeded", "Failed") and not alive)

    def _claim(self, job: Job) -> Claim | None:
        """Return the claim; one that the job names always exists on a laptop: it is a directory, made here."""
        named = job.spec.checkpoint.storage.claim_name
        if named is not None:
            self._directory.make_claim()
        return Claim(named or "checkpoints", "Bound") if self._directory.checkpoints.is_dir() else None

    def _carry_out(self, job: Job, actions: tuple[Action, ...]) -> None:
        self._refusals = ()
        for action in actions:
            try:
                self._act(job, action)
            except (LocalError, OSError) as error:
                name = type(action).__name__
                words = str(error) if isinstance(error, LocalError) else f"{error.filename}: {error.strerror}"
                self._refusals = (Refusal(name, "Local", words),)  # type: ignore[arg-type]
                return

    def _act(self, job: Job, action: Action) -> None:
        match action:
            case CreateClaim():
                self._directory.make_claim()
                self._wake.set()
            case CreateSecret():
                self._directory.token()
            case CreatePod(worker):
                self._start(job, worker)
            case DeletePod(worker, uid, grace):
                self._pods.delete(worker, uid, grace)
            case _:
                return  # a laptop needs no service, and the job's directory stays

    def _start(self, job: Job, worker: int) -> None:
        config = worker_config(
            job.spec,
            namespace=job.namespace,
            name=job.name,
            uid=job.uid,
            worker=worker,
            checkpoint_directory=str(self._directory.checkpoints.resolve()),
        )
        uid = self._pods.new_uid()
        environ = {
            **template_environ(job.spec),
            ENV_CONFIG: encode(config),
            ENV_COORDINATOR: f"http://{HOST}:{self._port}",
            ENV_TOKEN_FILE: str(self._directory.token_file.resolve()),
            ENV_POD_UID: uid,
            ENV_ADDRESS: HOST,
            ENV_FAULT: self._faults.arm(worker, uid),
        }
        self._pods.start(
            worker,
            uid,
            environ,
            self._directory.logs,
            spec_hash=spec_hash(job.spec),
            grace_seconds=int(config.grace_seconds),
        )

    def _tell(self, event: Event) -> None:
        if event.key:
            if event.key in self._told:
                return
            self._told.add(event.key)
        self._view.event(event)

    def _write_in_turn(self, job: Job, *, minor: bool) -> None:
        now = datetime.now(UTC)
        if minor and (now - self._written).total_seconds() < MINOR_WRITE_SECONDS:
            return
        self._written = now
        self._write(job)

    def _write(self, job: Job) -> None:
        try:
            self._directory.save(job)
        except LocalError as error:
            # Training matters more than its record; the next change tries again.
            self._tell(Event("Warning", "StatusNotWritten", str(error), key=str(error)))


def template_environ(spec: JobSpec) -> dict[str, str]:
    """Return the plain environment variables of the template's trainer container."""
    for container in spec.template.spec.containers:
        if container.name == TRAINER_CONTAINER:
            return {variable.name: variable.value or "" for variable in container.env if variable.value_from is None}
    return {}
