"""The decision being made: the job, what is observed, and the new status as far as it is thought out.

The policies beside this file each change one part of a draft; decide() calls them in order. Nothing here
outlives one call, so the mutability stays inside a pure function.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from rowlock.api.v1alpha1 import Condition
from rowlock_operator.core.model import Action, Event, Job, Launcher, Observed, Pod
from rowlock_operator.core.shape import spec_hash

if TYPE_CHECKING:
    from rowlock.api.v1alpha1 import JobSpec, JobStatus, WorkerStatus
    from rowlock.protocol import Order


def to_text(moment: datetime) -> str:
    """Return a moment the way Kubernetes writes it: RFC 3339, UTC, microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def to_moment(text: str) -> datetime:
    """Return the moment that `text` (RFC 3339) names."""
    return datetime.fromisoformat(text)


@dataclass
class Draft:
    """A decision in the making; `status` starts as a copy of the one last written."""

    job: Job
    observed: Observed
    now: datetime
    status: JobStatus
    actions: list[Action] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    order: Order | None = None
    wake_after: float | None = None

    def __post_init__(self) -> None:
        # Asked for over and over; looked up, so that a crew of a thousand does not cost a million looks.
        self._pods = {pod.worker: pod for pod in self.observed.pods}
        self._launchers = {(one.worker, one.pod_uid): one for one in self.observed.launchers}
        #: Fingerprint of the spec that pods have to be made from.
        self.spec_hash = spec_hash(self.job.spec)

    @property
    def spec(self) -> JobSpec:
        """The job's spec."""
        return self.job.spec

    @property
    def members(self) -> list[WorkerStatus]:
        """Each worker's place in the crew."""
        return self.status.workers.members

    @property
    def finished(self) -> bool:
        """Whether the job has ended, well or not."""
        return self.status.phase in ("Succeeded", "Failed")

    def pod(self, worker: int) -> Pod | None:
        """Return the pod of a worker; its name admits only one."""
        return self._pods.get(worker)

    def launcher(self, worker: int) -> Launcher | None:
        """Return the launcher that runs in a worker's *member* pod; one of an older pod does not count."""
        uid = self.members[worker].pod_uid if worker < len(self.members) else ""
        if not uid:
            return None
        return self._launchers.get((worker, uid))

    def crew(self) -> list[Launcher]:
        """Return the launchers of all members that are not lost and that the coordinator knows."""
        found = (self.launcher(member.index) for member in self.members if member.phase != "Lost")
        return [launcher for launcher in found if launcher is not None]

    def act(self, action: Action) -> None:
        """Add an action."""
        self.actions.append(action)

    def tell(self, kind: Literal["Normal", "Warning"], reason: str, message: str, key: str = "") -> None:
        """Add an event."""
        self.events.append(Event(kind, reason, message, key))

    def wake_at(self, moment: datetime) -> None:
        """Ask to be called again at `moment` at the latest."""
        self.wake_in(max(0.0, (moment - self.now).total_seconds()))

    def wake_in(self, seconds: float) -> None:
        """Ask to be called again after `seconds` at the latest."""
        self.wake_after = seconds if self.wake_after is None else min(self.wake_after, seconds)

    def passed(self, since: str, seconds: float) -> bool:
        """Return whether `seconds` have gone by since the moment written as `since`; if not, wake then."""
        due = to_moment(since) + timedelta(seconds=seconds)
        if self.now >= due:
            return True
        self.wake_at(due)
        return False

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of a type."""
        return next((one for one in self.status.conditions if one.type == kind), None)

    def holds(self, kind: str) -> bool:
        """Return whether a condition is True."""
        found = self.condition(kind)
        return found is not None and found.status == "True"

    def set_condition(
        self, kind: str, status: Literal["True", "False", "Unknown"], reason: str, message: str = ""
    ) -> None:
        """Set a condition; its transition time moves only when its status does."""
        old = self.condition(kind)
        since = old.last_transition_time if old is not None and old.status == status else to_text(self.now)
        new = Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            last_transition_time=since,
            observed_generation=self.job.generation,
        )
        rest = [one for one in self.status.conditions if one.type != kind]
        self.status.conditions = sorted([*rest, new], key=lambda one: one.type)
