"""The operator with the arguments and the rights that the chart gives it, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import charts
from tests.support.charts import CHART, NAMESPACE, RELEASE, VALUES, objects, pod_specs, render
from tests.support.control_plane import CRD_PATH, ControlPlane
from tests.support.kube_api import wait_until
from tests.support.operator_process import OperatorProcess
from tests.support.operator_world import DEADLINE_SECONDS, job_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.kube_api import JsonObject, KubeApi

POD_IP = "10.1.2.3"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/rowlock-operator"
SLICE = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices/rowlock-coordinator"
#: What a pod has of its own: ports and addresses here are this machine's.
OF_THE_POD = ("--coordinator-port=", "--probes-port=")


@pytest.fixture(scope="module")
def helm_path() -> Path:
    """Helm; it is built before the first test."""
    return charts.helm_path()


class Installed:
    """A release, and its operator as a process with the account of the release."""

    def __init__(self, plane: ControlPlane, values: str, directory: Path) -> None:
        self.api: KubeApi = plane.client()
        self._plane = plane
        for name in (NAMESPACE, "team-a", "team-b"):
            self.api.create("/api/v1/namespaces", {"metadata": {"name": name}}).ok()
        self.helm("install", CHART, "--values", VALUES[values], "--set=crds.install=false")
        (container,) = pod_specs(objects(render(values=VALUES[values])))["rowlock-operator"]["containers"]
        told = [word for word in container["args"] if not word.startswith(OF_THE_POD)]
        self.operator = OperatorProcess(
            self._kubeconfig(directory), directory, "", *told,
            f"--pod-ip={POD_IP}", f"--leader-elect-namespace={NAMESPACE}",
        )  # fmt: skip

    def helm(self, verb: str, *arguments: str | Path) -> None:
        charts.helm(verb, RELEASE, *arguments, "--namespace", NAMESPACE, kubeconfig=self._plane.kubeconfig)

    def end(self) -> None:
        """End the operator, which was allowed whatever it asked for."""
        assert self.operator.stop() == 0
        assert "forbidden" not in self.operator.log.read_text().lower()

    def submit(self, namespace: str) -> None:
        path = f"/apis/rowlock.dev/v1alpha1/namespaces/{namespace}/distributedtrainingjobs"
        self.api.create(path, job_manifest("digits")).ok()

    def pods(self, namespace: str) -> list[JsonObject]:
        return self.api.list(f"/api/v1/namespaces/{namespace}/pods")

    def await_pods(self, namespace: str) -> list[JsonObject]:
        wait_until(lambda: len(self.pods(namespace)) == 2, DEADLINE_SECONDS, f"the job in {namespace} has its pods")
        return self.pods(namespace)

    def _kubeconfig(self, directory: Path) -> Path:
        account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/rowlock-operator/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        config: dict[str, Any] = yaml.safe_load(self._plane.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": self.api.create(account, request).ok()["status"]["token"]}
        path = directory / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path


@pytest.fixture
def installed(request: pytest.FixtureRequest, helm_path: Path, tmp_path: Path) -> Iterator[Installed]:
    with ControlPlane.start([CRD_PATH]) as plane:
        release = Installed(plane, request.param, tmp_path)
        release.operator.start()
        yield release
        release.end()


@pytest.mark.parametrize("installed", ["default"], indirect=True)
def test_it_leads_says_where_and_makes_what_a_job_needs(installed: Installed) -> None:
    installed.submit("default")
    (pod, _) = installed.await_pods("default")
    environment = {item["name"]: item.get("value") for item in pod["spec"]["containers"][0]["env"]}
    assert f"http://rowlock-coordinator.{NAMESPACE}.svc:8480" in environment.values()
    assert installed.api.get(LEASE).ok()["spec"]["holderIdentity"]
    held = installed.api.get(SLICE).ok()
    assert held["endpoints"][0]["addresses"] == [POD_IP]
    installed.end()
    installed.helm("uninstall")
    wait_until(lambda: installed.api.get(SLICE).status == 404, DEADLINE_SECONDS, "the slice goes with its Service")


@pytest.mark.parametrize("installed", ["namespaced"], indirect=True)
def test_with_namespaces_it_serves_these_without_a_right_in_the_cluster(installed: Installed) -> None:
    for namespace in ("default", "team-a", "team-b"):
        installed.submit(namespace)
    for namespace in ("team-a", "team-b"):
        installed.await_pods(namespace)
    assert installed.pods("default") == []
    assert installed.api.get(SLICE).ok()["endpoints"][0]["addresses"] == [POD_IP]
