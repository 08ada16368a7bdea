"""A kubelet, a scheduler and a volume provisioner in one thread, that run nothing.

It watches pods of one namespace (or all), binds them, says they run, starts a fake launcher for each, and
ends them properly when they are deleted. Tests tell it which pods fail and how; what it writes is what a real
kubelet writes.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from rowlock.protocol import ExitCode
from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from tests.support.control_plane import ControlPlane
    from tests.support.fake_crew import FakeCrew

JsonObject = dict[str, Any]

#: How soon a broken watch is tried again, in seconds.
AGAIN_SECONDS = 0.1
#: Time a pod's launcher gets to say farewell, in seconds: the server closes its connection at once.
DEADLINE_SECONDS = 30.0


class FakeKubelet:
    """Plays the nodes."""

    def __init__(self, plane: ControlPlane, crew: FakeCrew, namespace: str | None = None) -> None:
        self._plane = plane
        self._api = plane.client(keep=True)
        self._crew = crew
        self._path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        self._started: set[str] = set()
        self._bound: set[str] = set()
        self._tokens: dict[str, str] = {}
        self._stopping = threading.Event()
        self._lock = threading.RLock()
        #: While set, images cannot be pulled.
        self.registry_down = False
        self._thread = threading.Thread(target=self._run, name="fake-kubelet", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop playing; pods stay as they are."""
        self._stopping.set()
        self._thread.join(DEADLINE_SECONDS)

    @property
    def tokens(self) -> list[str]:
        """Every token a pod was given."""
        return list(self._tokens.values())

    # --- what tests make happen -------------------------------------------------------------------

    def fail(self, pod: JsonObject, code: int = 1, reason: str = "Error", message: str = "") -> None:
        """The pod's container ends badly."""
        self._crew.kill(pod["metadata"]["uid"])
        self.end(pod, "Failed", code, reason, message)

    def preempt(self, pod: JsonObject) -> None:
        """The scheduler preempts the pod: DisruptionTarget first, then the container's end."""
        self._crew.kill(pod["metadata"]["uid"])
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": "preempting to accommodate a higher priority pod",
        }
        self.end(pod, "Failed", 143, "Error", "", [condition])

    def evaporate(self, pod: JsonObject) -> None:
        """The pod is force-deleted, as when its node is taken away."""
        self._crew.kill(pod["metadata"]["uid"])
        self._delete_now(pod)

    def end(
        self,
        pod: JsonObject,
        phase: str,
        code: int,
        reason: str,
        message: str = "",
        conditions: list[JsonObject] | None = None,
    ) -> None:
        """Write a pod's last status."""
        ended = {"exitCode": code, "reason": reason, "message": message, "finishedAt": _now()}
        self._write(pod, phase, {"terminated": ended}, conditions or [])

    def image_pull_fails(self, pod: JsonObject) -> None:
        """The pod waits for an image that cannot be pulled."""
        waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nowhere/none:1"'}
        self._write(pod, "Pending", {"waiting": waiting}, [])

    # --- its own life -----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                listed = self._api.get(self._path).ok()
                for pod in listed["items"]:
                    self._see(pod)
                self._watch(listed["metadata"]["resourceVersion"])
            except (OSError, http.client.HTTPException, AssertionError, KeyError, ValueError):
                # The server is away, or starts, or forgot the version: list anew, as a kubelet does.
                self._stopping.wait(AGAIN_SECONDS)

    def _watch(self, version: str) -> None:
        query = urlencode(
            {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": "2"}
        )
        tls = ssl.create_default_context(cafile=str(self._plane.authority))
        connection = http.client.HTTPSConnection(urlsplit(self._plane.url).netloc, context=tls, timeout=10)
        try:
            connection.request("GET", f"{self._path}?{query}", headers={"Authorization": f"Bearer {self._plane.token}"})
            response = connection.getresponse()
            if response.status != 200:
                raise OSError(f"watch answered {response.status}")
            while not self._stopping.is_set() and (line := response.readline()):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                if event["type"] in ("ADDED", "MODIFIED"):
                    self._see(event["object"])
        finally:
            connection.close()

    def _see(self, pod: JsonObject) -> None:
        uid = pod["metadata"]["uid"]
        with self._lock:
            if pod["metadata"].get("deletionTimestamp"):
                self._terminate(pod)
            elif pod.get("status", {}).get("phase") == "Pending" and uid not in self._started:
                self._bind(pod)
                if self.registry_down:
                    if not pod["status"].get("containerStatuses"):
                        self.image_pull_fails(pod)
                else:
                    self._started.add(uid)
                    self._start(pod)

    def heal_registry(self) -> None:
        """Images can be pulled again."""
        self.registry_down = False
        for pod in self._api.list(self._path):
            self._see(pod)

    def _bind(self, pod: JsonObject) -> None:
        """A pod on a node is deleted in two steps, one without at once: tests want the first."""
        if pod["metadata"]["uid"] in self._bound:
            return
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
        target = {"apiVersion": "v1", "kind": "Node", "name": "fake-node"}
        self._api.create(
            path, {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": target}
        )
        self._bound.add(meta["uid"])
        self._provision(pod)

    def _provision(self, pod: JsonObject) -> None:
        namespace = pod["metadata"]["namespace"]
        for volume in pod["spec"].get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim:
                path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}"
                if self._api.get(path).body.get("status", {}).get("phase") != "Bound":
                    self._api.merge(f"{path}/status", {"status": {"phase": "Bound"}})

    def _start(self, pod: JsonObject) -> None:
        self._write(pod, "Running", {"running": {"startedAt": _now()}}, [{"type": "Ready", "status": "True"}])
        container = pod["spec"]["containers"][0]
        environment = {variable["name"]: variable.get("value", "") for variable in container["env"]}
        labels, meta = pod["metadata"]["labels"], pod["metadata"]
        self._crew.start(
            environment["ROWLOCK_COORDINATOR"],
            self._token(pod),
            meta["namespace"],
            labels["rowlock.dev/job"],
            int(labels["rowlock.dev/worker"]),
            meta["uid"],
            lambda code: self._left(pod, code),
        )

    def _left(self, pod: JsonObject, code: int) -> None:
        # Called on the crew's loop: writing there would hold up every other launcher.
        phase = "Succeeded" if code == 0 else "Failed"
        threading.Thread(target=self.end, args=(pod, phase, code, "Completed" if code == 0 else "Error")).start()

    def _token(self, pod: JsonObject) -> str:
        """What the kubelet would mount; a pod waits until its Secret is there."""
        name = next(volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume)
        uid = pod["metadata"]["ownerReferences"][0]["uid"]
        if uid not in self._tokens:
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/secrets/{name}"
            wait_until(lambda: self._api.get(path).status == 200, DEADLINE_SECONDS, f"Secret {name} is there")
            self._tokens[uid] = base64.b64decode(self._api.get(path).ok()["data"]["token"]).decode()
        return self._tokens[uid]

    def _terminate(self, pod: JsonObject) -> None:
        self._crew.kill(pod["metadata"]["uid"])
        if pod.get("status", {}).get("phase") == "Running":
            self.end(pod, "Failed", ExitCode.SAVED, "Error")
        self._delete_now(pod)

    def _delete_now(self, pod: JsonObject) -> None:
        meta = pod["metadata"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        self._api.request("DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", body)

    def _write(self, pod: JsonObject, phase: str, state: JsonObject, conditions: list[JsonObject]) -> None:
        meta = pod["metadata"]
        container = {
            "name": "trainer",
            "state": state,
            "ready": phase == "Running",
            "restartCount": 0,
            "image": "fake",
            "imageID": "fake",
        }
        status = {"phase": phase, "containerStatuses": [container], "conditions": conditions}
        # The UID keeps a late word about an old pod from reaching a new one of its name.
        body = {"metadata": {"uid": meta["uid"]}, "status": status}
        self._api.merge(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status", body)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
