"""One job of one side on the cluster, from apply to its last trial, in a namespace that goes with it."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.cluster import records, sides
from benchmarks.cluster.onlooker import Onlooker, new_pods, pod_milestones
from benchmarks.cluster.peer import OWN_LABEL
from benchmarks.cluster.phases import last_of_all, phases
from benchmarks.cluster.sides import WORKERS, Side
from tests.support.cluster.interface import Cluster
from tests.support.kube_api import JsonObject, KubeApi, wait_until

#: How long a crew may take to its first step, in seconds: twice what the slowest took on two busy cores.
DEADLINE = 240.0
#: Steps that the crew does between two trials: past a snapshot or checkpoint.
SETTLED_STEPS = 30
#: How often the volume is looked at, in seconds. The moments themselves were written down by the ranks.
_LOOK_SECONDS = 0.25
#: Prints, in Unix time, when the container's first process and the ranks (the warm parent's children) were started.
_STARTS = """
import json, os, pathlib, time
boot = time.time() - float(pathlib.Path("/proc/uptime").read_text().split()[0])
stats = {p.parent.name: p.read_text().rpartition(")")[2].split() for p in pathlib.Path("/proc").glob("[0-9]*/stat")}
started = {pid: boot + int(stat[19]) / os.sysconf("SC_CLK_TCK") for pid, stat in stats.items()}
warm = {pid for pid, stat in stats.items() if stat[1] == "1"}
print(json.dumps([started["1"], *(started[pid] for pid, stat in stats.items() if stat[1] in warm)]))
"""
_LOG_TIME = re.compile(r"^(\S+?)(\.\d+)?Z (.*)$")


@dataclass
class Trial:
    """One lost pod."""

    worker: int
    seconds: float
    phases: dict[str, float] = field(default_factory=dict)


class Session:
    """A running job."""

    def __init__(self, cluster: Cluster, side: Side) -> None:
        self._cluster = cluster
        self._api = cluster.api()
        self._side = side
        self.namespace = f"bench-{secrets.token_hex(4)}"
        self._pods_path = f"/api/v1/namespaces/{self.namespace}/pods"
        self._jobs_path = side.path.format(namespace=self.namespace)
        self._onlooker: Onlooker | None = None
        self._records: records.Records | None = None

    def open(self) -> float:
        """Apply the job; return the seconds until all ranks had done a step. Raises TimeoutError if they did not."""
        self._api.create("/api/v1/namespaces", {"metadata": {"name": self.namespace, "labels": OWN_LABEL}}).ok()
        core = f"/api/v1/namespaces/{self.namespace}"
        accounts = f"{core}/serviceaccounts/default"
        wait_until(lambda: self._api.get(accounts).status == 200, DEADLINE, "the namespace takes pods")
        self._api.create(f"{core}/configmaps", sides.script_config_map()).ok()
        if self._side.creates_claim:
            self._api.create(f"{core}/persistentvolumeclaims", sides.claim()).ok()
        self._onlooker = Onlooker(self._api, self._pods_path, self._jobs_path)
        applied = time.time()
        self._api.create(self._jobs_path, self._side.body).ok()
        return self._stepped(applied)["stepped"] - applied

    def close(self) -> None:
        """Delete the namespace and wait until all of it is gone, so that it takes nothing from what comes next."""
        if self._onlooker is not None:
            self._onlooker.close()
        _remove(self._api, self.namespace)

    def trial(self, worker: int) -> Trial:
        """Delete a worker's pod; return what it cost.

        Raises:
            TimeoutError: The crew did not come back.
            MilestoneError: It did, but on a way that the phases do not tell of.
        """
        self._settle()
        name = next(
            pod["metadata"]["name"]
            for pod in self._living()
            if pod["metadata"]["labels"][self._side.worker_label] == str(worker)
        )
        old = self._number(self._api.get(f"{self._jobs_path}/{sides.JOB}").ok())
        deleted = time.time()
        self._api.delete(f"{self._pods_path}/{name}").ok()
        milestones = self._stepped(deleted)
        assert self._onlooker is not None
        pods = self._onlooker.news(self._pods_path)
        milestones |= pod_milestones(pods, self._onlooker.news(self._jobs_path), deleted, self._number, old)
        if self._side.pattern == "metrics.jsonl":
            milestones |= self._trainer_milestones([told[-1].object for told in new_pods(pods, deleted).values()])
        return Trial(worker, milestones["stepped"] - deleted, phases(deleted, milestones, self._side.phases))

    # --- what is seen ---------------------------------------------------------------------------------

    def _number(self, job: JsonObject) -> int:
        return int((job.get("status") or {}).get(self._side.number) or 0)

    def _living(self) -> list[JsonObject]:
        pods = self._api.list(self._pods_path)
        return [
            pod
            for pod in pods
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def _lines(self) -> dict[str, list[records.Record]]:
        if self._records is None:
            try:
                volume = self._cluster.volume(self.namespace, self._side.claim)
            except ValueError:
                return {}  # not provisioned yet
            self._records = records.Records(Path(volume) / self._side.records, self._side.pattern)
        return self._records.read()

    def _settle(self) -> None:
        """Wait until the whole crew runs and has done some steps since."""
        self._await(lambda: len(self._living()) == WORKERS, "all pods run")
        since = time.time()

        def settled() -> bool:
            lines = self._lines()
            return bool(lines) and all(records.steps_since(one, since) >= SETTLED_STEPS for one in lines.values())

        self._await(settled, f"{SETTLED_STEPS} steps were done by all ranks")

    def _stepped(self, after: float) -> dict[str, float]:
        """Wait for the first step of all ranks after a moment; return when they reached what was written down."""
        if self._side.pattern == "metrics.jsonl":
            return self._trainer_stepped(after)
        found: dict[int, records.Record] = {}

        def stepped() -> bool:
            found.update(records.first_lives(self._lines(), after))
            return len(found) == WORKERS

        self._await(stepped, "all ranks did a step")
        named = {"started": "container", "processes": "process", "stepped": "time"}
        reached: dict[str, float] = {}
        for milestone in ("started", "processes", "imported", "joined", "wrapped", "loaded", "stepped"):
            field_name = named.get(milestone, milestone)
            moment = last_of_all({rank: line[field_name] for rank, line in found.items()}, WORKERS)
            assert moment is not None
            reached[milestone] = moment
        return reached

    def _trainer_stepped(self, after: float) -> dict[str, float]:
        """The same from metrics.jsonl: gradients are averaged over all ranks, so rank 0's step is everyone's."""
        found: dict[str, float] = {}

        def stepped() -> bool:
            lines = self._lines().get("metrics", [])
            before = max((line["generation"] for line in lines if line["time"] <= after), default=0)
            for line in lines:
                if line["generation"] > before:
                    found.setdefault("loaded" if "event" in line else "stepped", line["time"])
            return "stepped" in found

        self._await(stepped, "the crew did a step")
        return found

    def _trainer_milestones(self, pods: list[JsonObject]) -> dict[str, float]:
        """What only the new pod itself can tell: its processes' starts, and when its launcher was named the store."""
        found: dict[str, float] = {}
        for pod in pods:
            name = pod["metadata"]["name"]
            where = ("-n", self.namespace, name, "-c", "trainer")
            container, *ranks = json.loads(self._cluster.kubectl("exec", *where, "--", "python3", "-c", _STARTS))
            found["started"] = max(found.get("started", 0.0), container)
            found["processes"] = max([found.get("processes", 0.0), *ranks])
            logs = self._cluster.kubectl("logs", *where, "--timestamps")
            found["formed"] = max([found.get("formed", 0.0), *times_of(logs, "ordered: run ")])
        return found

    def _await(self, condition: Callable[[], Any], what: str) -> None:
        wait_until(lambda: bool(condition()), DEADLINE, f"{self._side.title}: {what}", _LOOK_SECONDS)


def sweep(cluster: Cluster) -> None:
    """Remove namespaces that a run left which was killed before it could clean up."""
    api = cluster.api()
    (label,) = (f"{key}={value}" for key, value in OWN_LABEL.items())
    for left in api.list("/api/v1/namespaces", labelSelector=label):
        _remove(api, left["metadata"]["name"])


def _remove(api: KubeApi, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}"
    api.delete(path)
    wait_until(lambda: api.get(path).status == 404, DEADLINE, f"namespace {namespace} is gone", _LOOK_SECONDS)


def times_of(logs: str, said: str) -> list[float]:
    """Return when the lines that say something were written, in Unix time.

    Args:
        logs: As `kubectl logs --timestamps` prints them: the runtime's own time before each line.
        said: Part of the line.
    """
    matches = (_LOG_TIME.match(line) for line in logs.splitlines())
    return [
        datetime.fromisoformat(f"{match[1]}+00:00").timestamp() + float(match[2] or 0.0)
        for match in matches
        if match is not None and said in match[3]
    ]
