"""The control plane itself keeps the promises that other tests build on."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.kube_api import wait_until
from tests.support.manifests import command_job

if TYPE_CHECKING:
    from tests.support.control_plane import ControlPlane
    from tests.support.kube_api import JsonObject, KubeApi

JOBS = "/apis/rowlock.dev/v1alpha1/namespaces/{}/distributedtrainingjobs"


def owned_by(job: JsonObject) -> list[JsonObject]:
    owner = {"apiVersion": job["apiVersion"], "kind": job["kind"]}
    identity = {"name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
    return [{**owner, **identity, "controller": True, "blockOwnerDeletion": True}]


def test_what_a_deleted_job_owns_is_collected(api: KubeApi, namespace: str) -> None:
    job = api.create(JOBS.format(namespace), command_job()).ok()
    pods = f"/api/v1/namespaces/{namespace}/pods"
    container = {"name": "a", "image": "b"}
    metadata = {"name": "owned", "ownerReferences": owned_by(job)}
    api.create(pods, {"metadata": metadata, "spec": {"containers": [container]}}).ok()
    api.create(pods, {"metadata": {"name": "free"}, "spec": {"containers": [container]}}).ok()
    api.delete(f"{JOBS.format(namespace)}/plain").ok()
    wait_until(lambda: [pod["metadata"]["name"] for pod in api.list(pods)] == ["free"], 60, "the pod is collected")


def test_a_deleted_claim_waits_for_its_pod_and_no_longer(api: KubeApi, namespace: str) -> None:
    claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    resources = {"requests": {"storage": "1Gi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": resources}
    api.create(claims, {"metadata": {"name": "data"}, "spec": spec}).ok()
    api.delete(f"{claims}/data").ok()
    wait_until(lambda: api.list(claims) == [], 60, "the claim is gone")


def test_a_quota_is_counted(api: KubeApi, namespace: str) -> None:
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    api.create(quotas, {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}}).ok()
    wait_until(lambda: "hard" in api.get(f"{quotas}/few").ok()["status"], 60, "the quota has a status")
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    answer = api.create(f"/api/v1/namespaces/{namespace}/pods", pod)
    assert answer.status == 403
    assert "exceeded quota" in answer.message


def test_data_outlives_the_api_server_and_history_ends_at_a_compaction(
    control_plane: ControlPlane, api: KubeApi, namespace: str
) -> None:
    before = api.create(JOBS.format(namespace), command_job()).ok()["metadata"]["resourceVersion"]
    api.merge(f"{JOBS.format(namespace)}/plain", {"spec": {"workers": 2}}).ok()
    control_plane.compact()
    control_plane.restart_apiserver()
    path = JOBS.format(namespace)
    assert api.get(f"{path}/plain").ok()["spec"]["workers"] == 2

    def refusal() -> object:
        """Of a watch from before the compaction: an error event, or the answer itself."""
        body = api.get(path, watch="true", resourceVersion=before, timeoutSeconds="5").body
        print(body)  # noqa: T201 - shown when the deadline passes
        return body.get("object", body).get("code")

    # Ready comes before the cache of every resource is filled: until then the answer is 429, come again.
    wait_until(lambda: refusal() == 410, 30, "the watch is refused as too old")


_HOLD = """
from pathlib import Path
import sys, time
from tests.support.processes import Child
child = Child.start("sleeper", [Path("/bin/sleep"), "600"], Path(sys.argv[1]))
print(child.process.pid, flush=True)
time.sleep(600)
"""


def test_a_child_dies_with_the_run_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "log")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as run:
        assert run.stdout is not None
        stat = Path("/proc") / run.stdout.readline().strip() / "stat"
        assert stat.exists()
        run.kill()
    # Nobody may be there to reap it: a zombie is dead too.
    wait_until(lambda: not stat.exists() or " Z " in stat.read_text(), 10, "the child is dead")


def test_namespaces_of_tests_go_away(api: KubeApi) -> None:
    name = f"gone-{secrets.token_hex(4)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}}).ok()
    api.create(JOBS.format(name), command_job()).ok()
    api.delete(f"/api/v1/namespaces/{name}").ok()
    wait_until(lambda: api.get(f"/api/v1/namespaces/{name}").status == 404, 60, "the namespace is gone")
