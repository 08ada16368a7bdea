"""``--kill worker=2,step=40``: which worker is ended with SIGKILL, and after which step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rowlock.api.v1alpha1 import JobSpec
from rowlock.local.errors import LocalError
from rowlock_operator.core.model import Pod

_FORM = "give worker=INDEX,step=STEP"
#: Exit code of what SIGKILL ended, as shells give it: 128 + 9.
_KILLED = 137


@dataclass(frozen=True, order=True)
class Kill:
    """End this worker, launcher and ranks, when it has finished this step; once."""

    worker: int
    step: int

    @property
    def fault(self) -> str:
        """The same in the words of rowlock.protocol.ENV_FAULT."""
        return f"kill@{self.step}"


class Faults:
    """The kills that are still to come; each pod of a worker carries the worker's next one.

    A pod can end before its kill's step is reached; its replacement then carries the same kill.
    """

    def __init__(self, kills: Iterable[Kill]) -> None:
        self._left = sorted(kills)
        self._armed: dict[str, Kill] = {}

    @property
    def left(self) -> list[Kill]:
        """Kills that have not struck."""
        return list(self._left)

    def arm(self, worker: int, pod_uid: str) -> str:
        """Return the fault that a new pod of this worker carries, "" for none."""
        kill = next((one for one in self._left if one.worker == worker), None)
        if kill is None:
            return ""
        self._armed[pod_uid] = kill
        return kill.fault

    def struck(self, pods: Iterable[Pod]) -> dict[str, int]:
        """Return, by pod, the step after which its kill has struck now; a kill strikes once."""
        found = {}
        for pod in pods:
            kill = self._armed.get(pod.uid)
            if kill is not None and pod.exit_code == _KILLED:
                del self._armed[pod.uid]
                self._left.remove(kill)
                found[pod.uid] = kill.step
        return found


def parse_kill(text: str, spec: JobSpec) -> Kill:
    """Return the kill that `text` asks for.

    Raises:
        LocalError: `text` is not of the form, or asks for what this job cannot do.
    """
    if spec.trainer is None:
        raise LocalError(
            f"--kill {text}: only the built-in trainer tells its steps; a job with spec.command can be disturbed "
            "by ending one of its processes"
        )
    try:
        fields = dict(part.split("=", 1) for part in text.split(","))
        kill = Kill(int(fields.pop("worker")), int(fields.pop("step")))
    except (ValueError, KeyError) as error:
        raise LocalError(f"--kill {text}: {_FORM}, such as worker=2,step=40") from error
    if fields:
        raise LocalError(f"--kill {text}: {', '.join(fields)} is not known; {_FORM}")
    if not 0 <= kill.worker < spec.workers:
        raise LocalError(f"--kill {text}: the job has workers 0 to {spec.workers - 1}")
    if kill.step < 1:
        raise LocalError(f"--kill {text}: step must be at least 1")
    if kill.step > spec.trainer.steps:
        raise LocalError(f"--kill {text}: the job ends at step {spec.trainer.steps}, so that step never comes")
    return kill
