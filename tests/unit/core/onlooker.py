"""What an operator knows of the simulated world: each object and each report as it was at some earlier moment.

News of different objects comes separately and late, but of one object never in the wrong order: that is what
watches and connections promise, and all they promise. A new onlooker lists the objects as they are, and knows
launchers only when they have connected to it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from rowlock.protocol import LEASE_SECONDS
from rowlock_operator.core.model import Job, Launcher, Observed, Pod

if TYPE_CHECKING:
    from tests.unit.core.simulation import World


class Onlooker:
    """One incarnation of the operator."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pods: dict[int, Pod] = {}
        self._launchers: dict[str, Launcher] = {}
        self.listening_since = world.now
        self.heard_all_at: datetime = world.now
        self.hear_job()
        for worker in world.pods:
            self.hear_pod(worker)

    def observe(self) -> Observed:
        """The world as it is known."""
        world = self._world
        return Observed(
            tuple(self._pods[worker] for worker in sorted(self._pods)),
            world.claim,
            world.service,
            world.secret,
            tuple(self._launchers.values()),
            self.listening_since,
            isolated=world.policy or not world.isolates,
        )

    def connected(self) -> list[str]:
        """UIDs of the launchers that orders can be sent to."""
        return [uid for uid, one in self._launchers.items() if one.connected]

    def hear_job(self) -> None:
        """News of the job: its spec, its status and the version both are of."""
        self.job: Job = self._world.job()
        self.version = self._world.version

    def hear_pod(self, worker: int) -> None:
        """News of the pod that has a worker's name, or that there is none."""
        pod = self._world.pods.get(worker)
        if pod is None:
            self._pods.pop(worker, None)
        else:
            self._pods[worker] = pod

    def hear_launchers(self, worker: int) -> None:
        """News of every launcher of a worker: what it reports, that it connected, that it hung up."""
        for uid, process in self._world.processes.items():
            if process.worker == worker and process.connected:
                self._take(uid, worker)
        for uid, known in list(self._launchers.items()):
            process = self._world.processes.get(uid)
            if known.worker == worker and (process is None or not process.connected):
                self._miss(uid, known)

    def hear_all(self) -> None:
        """All news there is."""
        world = self._world
        self.hear_job()
        for worker in {*world.pods, *self._pods}:
            self.hear_pod(worker)
        for worker in {one.worker for one in (*world.processes.values(), *self._launchers.values())}:
            self.hear_launchers(worker)
        self.heard_all_at = world.now

    def _take(self, uid: str, worker: int) -> None:
        now, report, known = self._world.now, self._world.processes[uid].report, self._launchers.get(uid)
        stepped_at = known.stepped_at if known is not None else None
        if known is not None and report.progress is not None and report.progress != known.report.progress:
            stepped_at = now
        since = known.connected_since if known is not None and known.connected else now
        self._launchers[uid] = Launcher(worker, uid, True, now, report, stepped_at=stepped_at, connected_since=since)

    def _miss(self, uid: str, known: Launcher) -> None:
        silence = (self._world.now - known.last_seen).total_seconds()
        # A node that lost its power hangs up on nobody: only the lease tells.
        if uid not in self._world.stuck or silence >= LEASE_SECONDS:
            self._launchers[uid] = replace(known, connected=False, connected_since=None)
