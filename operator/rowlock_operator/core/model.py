"""What decide() looks at and what it answers: plain values, no I/O.

`Observed` is the world as one job sees it, `Decision` is what shall be done about it. Both are the whole
truth at one moment, never a change: the shell may lose one, repeat one or crash between two, and the next
round comes to the same end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from rowlock.api.v1alpha1 import JobSpec, JobStatus
from rowlock.protocol import Order, Report

PodPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]


@dataclass(frozen=True)
class Job:
    """The resource: identity, spec and the status last written."""

    namespace: str
    name: str
    uid: str
    #: metadata.generation: counts changes of the spec. Not the crew's generation.
    generation: int
    spec: JobSpec
    status: JobStatus
    deleting: bool = False


@dataclass(frozen=True)
class Pod:
    """A worker pod, as far as a decision depends on it."""

    worker: int
    uid: str
    phase: PodPhase
    ready: bool = False
    #: deletionTimestamp, once deletion was asked for.
    deleting_since: datetime | None = None
    grace_seconds: int = 30
    #: Of the trainer container once it has ended; 128 + signal when killed.
    exit_code: int | None = None
    #: Kubernetes' word for it: Error, OOMKilled, Evicted, DeadlineExceeded, StartError, ...
    reason: str = ""
    message: str = ""
    #: True when condition DisruptionTarget holds: preempted by the scheduler, drained, evicted, node lost.
    disrupted: bool = False
    #: That condition's own reason: PreemptionByScheduler, EvictionByEvictionAPI, DeletionByTaintManager, ...
    disruption: str = ""
    #: Why a container waits: ErrImagePull, ImagePullBackOff, CreateContainerConfigError, ...
    waiting_reason: str = ""
    waiting_message: str = ""
    #: Scheduler's words when the pod cannot be placed.
    unschedulable: str = ""
    #: Since when the trainer container runs; None while it does not.
    running_since: datetime | None = None
    #: The trainer container has ended, but containers beside it still run and hold the node.
    lingering: bool = False
    #: `rowlock_operator.core.shape.spec_hash` of the spec it was made from; "" when it does not say.
    spec_hash: str = ""

    @property
    def terminal(self) -> bool:
        """Whether its containers have ended for good."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True)
class Claim:
    """The volume claim of the checkpoints."""

    name: str
    phase: Literal["Pending", "Bound", "Lost"]
    deleting: bool = False


@dataclass(frozen=True)
class Launcher:
    """What the coordinator knows of one launcher."""

    worker: int
    pod_uid: str
    connected: bool
    #: When it was last heard.
    last_seen: datetime
    report: Report
    address: str = ""
    #: When its reported step last moved, by our own clock; None when it never did.
    stepped_at: datetime | None = None
    #: Since when it is heard, brief gaps aside; None while it has no connection.
    connected_since: datetime | None = None


#: An action's name, as refusals give it.
ActionName = Literal[
    "CreateClaim",
    "CreateService",
    "CreateSecret",
    "CreateNetworkPolicy",
    "CreatePod",
    "DeletePod",
    "DeleteJob",
]


@dataclass(frozen=True)
class Refusal:
    """An action the API server (or the laptop) would not carry out, and why."""

    action: ActionName
    reason: str
    message: str


@dataclass(frozen=True)
class Observed:
    """The world as one job sees it. At most one pod and one launcher a worker index and UID."""

    pods: tuple[Pod, ...] = ()
    #: None when there is none of the name the job uses.
    claim: Claim | None = None
    service: bool = False
    secret: bool = False
    launchers: tuple[Launcher, ...] = ()
    #: Since when launchers could reach the coordinator; None when that is not known.
    listening_since: datetime | None = None
    #: From the last time actions were carried out; empty when all were.
    refusals: tuple[Refusal, ...] = ()
    #: False while the NetworkPolicy that is wanted is not there. True where none is wanted.
    isolated: bool = True
    #: Image that this operator would copy the launcher from; empty: from none.
    launcher_image: str = ""


@dataclass(frozen=True)
class CreateClaim:
    """Create the claim of the checkpoints."""


@dataclass(frozen=True)
class CreateService:
    """Create the headless service that names the workers."""


@dataclass(frozen=True)
class CreateSecret:
    """Create the Secret with the job's token; the shell makes the token up."""


@dataclass(frozen=True)
class CreateNetworkPolicy:
    """Create the NetworkPolicy that lets only the job's own pods reach its workers."""


@dataclass(frozen=True)
class CreatePod:
    """Create the pod of one worker."""

    worker: int


@dataclass(frozen=True)
class DeletePod:
    """Delete this very pod (UID as precondition). `grace_seconds` 0 forces it; None is the pod's own."""

    worker: int
    uid: str
    grace_seconds: int | None = None


@dataclass(frozen=True)
class DeleteJob:
    """Delete the finished job itself; its claim stays unless retention says otherwise."""


Action = CreateClaim | CreateService | CreateSecret | CreateNetworkPolicy | CreatePod | DeletePod | DeleteJob


@dataclass(frozen=True)
class Event:
    """Something a person should see."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    #: Two events of one key are one: decide() may say it again in every round. Empty: say it each time.
    key: str = ""


@dataclass(frozen=True)
class Decision:
    """What shall be done.

    The shell writes `status` first, and only when that is done publishes `order`, carries out `actions`
    and tells `events`. Counting is therefore done exactly once: a crash after the write finds it
    counted, a crash before it finds nothing done.
    """

    status: JobStatus
    actions: tuple[Action, ...] = ()
    order: Order | None = None
    events: tuple[Event, ...] = ()
    #: Look again after this many seconds even if nothing happens; None when nothing is due.
    requeue_after: float | None = None
    #: Only progress numbers differ: the write may wait its turn.
    minor: bool = False
