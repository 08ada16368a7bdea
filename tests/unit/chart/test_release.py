"""What the chart says it is, and what it says to who installs it."""

from __future__ import annotations

import re
import shutil
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import rowlock
from rowlock.api.manifest import parse_manifest
from rowlock.api.v1alpha1 import DEFAULT_IMAGE
from tests.support.binaries import OLDEST_KUBERNETES
from tests.support.charts import CHART, VALUES, HelmError, objects, of_kind, render

if TYPE_CHECKING:
    from pathlib import Path

META: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())


@pytest.fixture
def talking_chart(tmp_path: Path) -> Path:
    """The chart with its notes among its objects: Helm shows them only to who installs."""
    chart = tmp_path / "rowlock"
    shutil.copytree(CHART, chart)
    shutil.move(chart / "templates" / "NOTES.txt", chart / "files" / "NOTES.txt")
    shown = '{{ dict "kind" "Notes" "text" (tpl (.Files.Get "files/NOTES.txt") .) | toJson }}'
    (chart / "templates" / "notes.yaml").write_text(shown)
    return chart


def notes(chart: Path, *arguments: str, values: str = "default") -> str:
    (found,) = of_kind(objects(render(*arguments, values=VALUES[values], chart=chart)), "Notes")
    return str(found["text"])


def test_chart_images_and_project_are_one_release() -> None:
    assert META["version"] == META["appVersion"] == rowlock.__version__
    images = yaml.safe_load(META["annotations"]["artifacthub.io/images"])
    assert [item["image"] for item in images] == [f"ghcr.io/rowlock/operator:{rowlock.__version__}", DEFAULT_IMAGE]
    (deployment,) = of_kind(objects(render()), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == images[0]["image"]


def test_its_licence_is_the_projects() -> None:
    assert (CHART / "LICENSE").read_text() == (CHART.parents[1] / "LICENSE").read_text()


def test_the_oldest_kubernetes_is_the_one_of_the_definition() -> None:
    oldest = ".".join(map(str, OLDEST_KUBERNETES))
    assert META["kubeVersion"] == f">={oldest}.0-0"
    assert render(f"--kube-version=v{oldest}.4-gke.100")
    with pytest.raises(HelmError, match=r"incompatible with Kubernetes v1\.29\.9"):
        render("--kube-version=v1.29.9")


@pytest.mark.parametrize("values", VALUES)
def test_the_job_in_the_notes_is_one(talking_chart: Path, values: str) -> None:
    (manifest,) = re.findall(r"<<'END'\n(.*?)\n  END\n", notes(talking_chart, values=values), re.DOTALL)
    assert parse_manifest(textwrap.dedent(manifest).encode(), "NOTES.txt").spec.workers == 2


def test_the_notes_say_what_becomes_of_the_jobs(talking_chart: Path) -> None:
    assert "helm uninstall leaves the CustomResourceDefinition and all jobs" in notes(talking_chart)
    assert "deletes ALL jobs of the cluster" in notes(talking_chart, "--set=crds.keep=false")
    assert "see to it that the CustomResourceDefinition" in notes(talking_chart, "--set=crds.install=false")


def test_the_notes_warn_where_nobody_stands_by_or_nothing_is_allowed(talking_chart: Path) -> None:
    assert "WARNING" not in notes(talking_chart)
    assert "with one replica nobody stands by" in notes(talking_chart, "--set=replicas=1")
    assert "ServiceAccount trainers" in notes(talking_chart, values="single")


def test_the_notes_say_how_far_isolation_goes(talking_chart: Path) -> None:
    assert "NetworkPolicy" not in notes(talking_chart)
    assert "does not cover pods with hostNetwork" in notes(talking_chart, "--set=jobs.isolate=true")


def test_the_notes_send_nobody_to_a_namespace_that_is_not_served(talking_chart: Path) -> None:
    said = notes(talking_chart, values="namespaced")
    assert "serves the jobs of team-a, team-b." in said
    assert "kubectl apply -n team-a -f -" in said
    assert "kubectl get dtj -n team-a" in said
