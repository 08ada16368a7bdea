"""Whether status told the truth all along: a witness that looks several times a second and forgets nothing.

What a cluster says of itself is always a moment old, so a statement is false only if it is still made when the
facts have contradicted it for longer than news takes (`PATIENCE`). Contradictions within status itself get no
such grace: one write, one truth.
"""

from __future__ import annotations

import http.client
import threading
import time
from typing import TYPE_CHECKING, Any

from rowlock_trainer.checkpoint import list_checkpoints

if TYPE_CHECKING:
    from tests.e2e.jobs import Job
    from tests.support.kube_api import JsonObject

#: How often it looks, in seconds.
INTERVAL = 0.2
#: How long status may lag behind the facts, in seconds. The operator takes milliseconds; but when its leader is cut off
#: nobody writes until another leads, 15 to 20 s later. A lost node is not seen in its pods: this does not bound that.
PATIENCE = 30.0
_FINISHED = ("Succeeded", "Failed")


class Witness:
    """Watches one job from start to end; `verdict` fails the test if it saw something untrue."""

    def __init__(self, job: Job, patience: float = PATIENCE) -> None:
        self._job = job
        self._patience = patience
        self._stopping = threading.Event()
        self._before: JsonObject = {}
        self._contradicted: dict[str, float] = {}
        self._looks = 0
        #: What ended the watch before its time.
        self._broken: Exception | None = None
        self._uid = ""
        self.untruths: list[str] = []
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)

    def verdict(self) -> None:
        """Look once more, and fail if anything untrue was seen, or the watch did not last to the end."""
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the witness is still looking"
        if self._broken is not None:
            raise AssertionError("the witness could not look on") from self._broken
        before = self._looks
        self._look()
        assert self._looks > before, "the witness did not see the end"
        assert not self.untruths, "status did not tell the truth:\n" + "\n".join(dict.fromkeys(self.untruths))

    def _run(self) -> None:
        try:
            while not self._stopping.wait(INTERVAL):
                self._look()
        except Exception as error:  # noqa: BLE001 - it is the verdict's, on the test's own thread
            self._broken = error

    def _look(self) -> None:
        try:
            body = self._job.body()
            pods = self._job.pods()
        except (OSError, http.client.HTTPException, AssertionError):
            return  # the API server is away: nothing is said meanwhile
        if body is None or not body.get("status"):
            return
        if body["metadata"]["uid"] != self._uid:
            self._uid, self._before = body["metadata"]["uid"], {}
        self._judge(body["status"], pods, body)
        self._looks += 1
        self._before = body["status"]

    def _judge(self, status: JsonObject, pods: list[JsonObject], body: JsonObject) -> None:
        self._within(status)
        if self._before:
            self._between(self._before, status)
        self._against_pods(status, pods)
        self._against_disk(status)
        if status.get("observedGeneration", 0) > body["metadata"]["generation"]:
            self._untrue(f"observedGeneration {status['observedGeneration']} of {body['metadata']['generation']}")

    # --- one status -----------------------------------------------------------------------------------

    def _within(self, status: JsonObject) -> None:
        phase, workers = status["phase"], status.get("workers", {})
        conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
        if workers.get("ready", 0) > workers.get("wanted", 0):
            self._untrue(f"{workers['ready']} of {workers['wanted']} workers are ready")
        saving = any(one["type"] == "Ready" and one["reason"] == "Saving" for one in status.get("conditions", []))
        if not saving and (conditions.get("Ready") in ("True", "Unknown")) != (phase == "Running"):
            self._untrue(f"phase {phase} with Ready {conditions.get('Ready')}")
        if conditions.get("Ready") == "Unknown" and conditions.get("Degraded") != "True":
            self._untrue("Ready Unknown with Degraded False")
        for kind in _FINISHED:
            if (conditions.get(kind) == "True") != (phase == kind):
                self._untrue(f"phase {phase} with {kind} {conditions.get(kind)}")
        self._within_counts(status)

    def _within_counts(self, status: JsonObject) -> None:
        phase = status["phase"]
        if (phase in _FINISHED) != bool(status.get("completionTime")):
            self._untrue(f"phase {phase} with completionTime {status.get('completionTime')}")
        progress = status.get("progress") or {}
        if progress and progress["step"] > progress["totalSteps"]:
            self._untrue(f"step {progress['step']} of {progress['totalSteps']}")
        if phase == "Succeeded" and progress and progress["step"] != progress["totalSteps"]:
            self._untrue(f"succeeded at step {progress['step']} of {progress['totalSteps']}")
        for kind in ("failures", "preemptions"):
            budget = status.get(kind) or {}
            told = budget.get("last") or status.get("unsettled")
            if budget.get("count") and not told:
                self._untrue(f"{budget['count']} {kind} and not a word why")

    # --- two of them ----------------------------------------------------------------------------------

    def _between(self, before: JsonObject, now: JsonObject) -> None:
        for name in ("generation", "restarts"):
            if now.get(name, 0) < before.get(name, 0):
                self._untrue(f"{name} went from {before[name]} to {now.get(name, 0)}")
        if _faults(now) < _faults(before):
            self._untrue(f"{_faults(before)} faults became {_faults(now)}")
        if before["phase"] in _FINISHED and now["phase"] != before["phase"]:
            self._untrue(f"{before['phase']} became {now['phase']}")
        old, new = (status.get("progress") or {} for status in (before, now))
        backwards = new.get("step", 0) < old.get("step", 0)
        # Before it says where it goes on from, the step is the one that the generation before it came to.
        resumed = before.get("resumedFromStep") is not None
        if backwards and resumed and now["generation"] == before["generation"]:
            self._untrue(f"step went from {old['step']} to {new.get('step', 0)} in generation {now['generation']}")

    # --- status and the world -------------------------------------------------------------------------

    def _against_pods(self, status: JsonObject, pods: list[JsonObject]) -> None:
        alive = {pod["metadata"]["uid"] for pod in pods if pod["status"].get("phase") == "Running"}
        members = [one for one in status.get("workers", {}).get("members", []) if one.get("phase") == "Running"]
        missing = [one["index"] for one in members if one.get("podUid") not in alive]
        running = status["phase"] == "Running"
        self._lasting("running", bool(running and missing), f"phase Running without the pods of workers {missing}")
        ready = status.get("workers", {}).get("ready", 0)
        self._lasting("ready", ready > len(alive), f"{ready} workers ready, but {len(alive)} pods run")

    def _against_disk(self, status: JsonObject) -> None:
        told = status.get("lastCheckpoint")
        unheard = any(one["reason"] == "CrewUnheard" for one in status.get("conditions", []))
        if not told or unheard:  # nothing told, or told to be old
            self._contradicted.pop("checkpoint", None)
            return
        try:
            names = {note.name for note in list_checkpoints(self._job.checkpoints)}
        except (ValueError, OSError, TypeError):
            return  # no volume yet, or the claim is just going
        absent = told["name"] not in names
        self._lasting("checkpoint", absent, f"lastCheckpoint is {told['name']}, on the volume are {sorted(names)}")

    def _lasting(self, what: str, contradicted: bool, words: str) -> None:
        if not contradicted:
            self._contradicted.pop(what, None)
        elif time.monotonic() - self._contradicted.setdefault(what, time.monotonic()) > self._patience:
            self._untrue(f"for more than {self._patience:.0f} s: {words}")

    def _untrue(self, words: str) -> None:
        self.untruths.append(words)


def _faults(status: dict[str, Any]) -> int:
    return sum(int((status.get(kind) or {}).get("count", 0)) for kind in ("failures", "preemptions"))
