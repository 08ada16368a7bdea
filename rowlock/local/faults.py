"""``--kill worker=2,step=40``: which worker is ended with SIGKILL, and after which step."""

from __future__ import annotations

from dataclasses import dataclass

from rowlock.local.directory import LocalError


@dataclass(frozen=True)
class Kill:
    """End this worker, launcher and ranks, when it has finished this step; once."""

    worker: int
    step: int

    @property
    def fault(self) -> str:
        """The same in the words of rowlock.protocol.ENV_FAULT."""
        return f"kill@{self.step}"


def parse_kill(text: str, workers: int) -> Kill:
    """Return the kill that `text` asks for.

    Raises:
        LocalError: `text` is not of the form, or names a worker the job does not have.
    """
    try:
        fields = dict(part.split("=", 1) for part in text.split(","))
        kill = Kill(int(fields.pop("worker")), int(fields.pop("step")))
    except (ValueError, KeyError) as error:
        raise LocalError(f"--kill {text}: give worker=INDEX,step=STEP, such as worker=2,step=40") from error
    if fields:
        raise LocalError(f"--kill {text}: {', '.join(fields)} is not known; give worker=INDEX,step=STEP")
    if not 0 <= kill.worker < workers:
        raise LocalError(f"--kill {text}: the job has workers 0 to {workers - 1}")
    if kill.step < 1:
        raise LocalError(f"--kill {text}: step must be at least 1")
    return kill
