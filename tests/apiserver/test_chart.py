"""The chart on a real API server: each object is one it takes, and no release takes jobs with it when it goes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support import charts
from tests.support.charts import CHART, NAMESPACE, RELEASE, VALUES, HelmError, objects, of_kind, pod_specs, render
from tests.support.control_plane import CRD_PATH, ControlPlane
from tests.support.kube_api import wait_until
from tests.support.manifests import trainer_job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.kube_api import Answer, JsonObject, KubeApi

DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/distributedtrainingjobs.rowlock.dev"
JOBS = "/apis/rowlock.dev/v1alpha1/namespaces/default/distributedtrainingjobs"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
SERVER_SIDE_APPLY = "application/apply-patch+yaml"
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}
RELABELINGS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            **{name: {"type": "string"} for name in ("action", "regex", "replacement", "targetLabel")},
            "sourceLabels": {"type": "array", "items": {"type": "string"}},
        },
    },
}
#: As much of the Prometheus operator's definition as the chart uses, written from its API reference: the whole is not
#: part of Kubernetes, and strict validation against this much still finds a misplaced or misspelt field.
SERVICE_MONITOR_SPEC = {
    "type": "object",
    "required": ["selector", "endpoints"],
    "properties": {
        "selector": {
            "type": "object",
            "properties": {"matchLabels": {"type": "object", "additionalProperties": {"type": "string"}}},
        },
        "endpoints": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "port": {"type": "string"},
                    "path": {"type": "string"},
                    "interval": DURATION,
                    "scrapeTimeout": DURATION,
                    "relabelings": RELABELINGS,
                    "metricRelabelings": RELABELINGS,
                },
            },
        },
    },
}


def service_monitors() -> JsonObject:
    names = {"plural": "servicemonitors", "singular": "servicemonitor", "kind": "ServiceMonitor"}
    schema = {"type": "object", "properties": {"spec": SERVICE_MONITOR_SPEC}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    group = "monitoring.coreos.com"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"servicemonitors.{group}"},
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [version]},
    }


@pytest.fixture(scope="module")
def helm_path() -> Path:
    """Helm; it is built before the first test."""
    return charts.helm_path()


@pytest.fixture(scope="module")
def served(helm_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApi]:
    """A client of a server of this module's own, with the namespaces and definitions that releases take for granted."""
    path = tmp_path_factory.mktemp("definitions") / "servicemonitors.yaml"
    path.write_text(yaml.safe_dump(service_monitors()))
    with ControlPlane.start([CRD_PATH, path]) as plane:
        api = plane.client()
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        for name in (NAMESPACE, "team-a", "team-b"):
            api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}}).ok()
        yield api


def address(api: KubeApi, body: JsonObject) -> str:
    """Where the server keeps `body`, by its own discovery."""
    version = body["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    resources = api.get(root).ok()["resources"]
    resource = next(item for item in resources if item["kind"] == body["kind"] and "/" not in item["name"])
    namespace = f"/namespaces/{body['metadata']['namespace']}" if resource["namespaced"] else ""
    return f"{root}{namespace}/{resource['name']}"


def applied_for_show(api: KubeApi, body: JsonObject) -> Answer:
    """What the server says to `kubectl apply --server-side --dry-run=server --validate=strict`."""
    path = f"{address(api, body)}/{body['metadata']['name']}"
    options = {"dryRun": "All", "fieldValidation": "Strict", "fieldManager": "helm", "force": "true"}
    return api.request("PATCH", path, body, SERVER_SIDE_APPLY, **options)


@pytest.mark.parametrize("values", VALUES)
def test_every_object_is_one_that_the_server_takes(served: KubeApi, values: str) -> None:
    for body in objects(render(values=VALUES[values])):
        answer = applied_for_show(served, body)
        answer.ok()
        # Of pods that the restricted standard would refuse the server warns here: the namespaces ask it to.
        assert answer.warnings == ()


def test_what_it_does_not_take_would_be_seen(served: KubeApi) -> None:
    (monitor,) = of_kind(objects(render("--set=metrics.serviceMonitor.enabled=true")), "ServiceMonitor")
    monitor["spec"]["endpoints"][0]["intervall"] = "1m"
    assert "intervall" in applied_for_show(served, monitor).message
    (deployment,) = of_kind(objects(render()), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    assert any("violate PodSecurity" in warning for warning in applied_for_show(served, deployment).warnings)


@pytest.mark.parametrize("values", VALUES)
def test_its_pods_are_let_into_a_restricted_namespace(served: KubeApi, values: str) -> None:
    for name, spec in pod_specs(objects(render(values=VALUES[values]))).items():
        pod = {"metadata": {"name": f"{name}-{values}"}, "spec": spec}
        served.create(f"/api/v1/namespaces/{NAMESPACE}/pods", pod, fieldValidation="Strict", dryRun="All").ok()


class Releases:
    """What a person does with Helm, on a server where nothing is installed."""

    def __init__(self, plane: ControlPlane) -> None:
        self.api = plane.client()
        self._kubeconfig = plane.kubeconfig

    def helm(self, verb: str, *arguments: str | Path, release: str = RELEASE) -> str:
        return charts.helm(verb, release, *arguments, "--namespace", NAMESPACE, kubeconfig=self._kubeconfig)

    def install(self, *arguments: str, chart: Path = CHART, release: str = RELEASE) -> str:
        return self.helm("install", chart, "--create-namespace", *arguments, release=release)

    def has_job(self) -> bool:
        return self.api.get(f"{JOBS}/digits").status == 200

    def names(self, path: str) -> set[str]:
        return {body["metadata"]["name"] for body in self.api.list(path)}


@pytest.fixture
def releases(helm_path: Path) -> Iterator[Releases]:
    with ControlPlane.start() as plane:
        yield Releases(plane)


def test_a_release_that_goes_leaves_the_jobs_and_one_that_comes_takes_them_up(releases: Releases) -> None:
    assert "kubectl get dtj --watch" in releases.install()
    releases.api.create(JOBS, trainer_job()).ok()
    releases.helm("upgrade", CHART, "--set=replicas=3")
    assert releases.api.get(f"{DEPLOYMENTS}/rowlock-operator").ok()["spec"]["replicas"] == 3
    releases.helm("uninstall")
    assert releases.names(DEPLOYMENTS) == set()
    assert releases.names(f"/api/v1/namespaces/{NAMESPACE}/services") == set()
    assert releases.has_job()

    releases.install()
    assert releases.names(DEPLOYMENTS) == {"rowlock-operator"}
    releases.helm("upgrade", CHART, "--set=crds.install=false")
    assert releases.has_job()
    releases.helm("uninstall")

    with pytest.raises(HelmError, match="invalid ownership metadata"):
        releases.install(release="another")
    releases.install("--take-ownership", release="another")
    assert releases.names(DEPLOYMENTS) == {"another-rowlock-operator"}
    assert releases.has_job()


def test_an_upgrade_brings_the_new_definition(releases: Releases, tmp_path: Path) -> None:
    older = tmp_path / "rowlock"
    shutil.copytree(CHART, older)
    definition = yaml.safe_load(CRD_PATH.read_text())
    definition["spec"]["versions"][0]["additionalPrinterColumns"] = []
    (older / "files" / CRD_PATH.name).write_text(yaml.safe_dump(definition, sort_keys=False))
    releases.install(chart=older)
    releases.helm("upgrade", CHART)
    columns = releases.api.get(DEFINITION).ok()["spec"]["versions"][0]["additionalPrinterColumns"]
    assert "Phase" in {column["name"] for column in columns}


def test_who_wants_it_gone_gets_it_gone(releases: Releases) -> None:
    releases.install("--set=crds.keep=false")
    releases.helm("uninstall")
    # The server first deletes the jobs, then the definition.
    wait_until(lambda: releases.api.get(DEFINITION).status == 404, 30, "the definition is gone")
