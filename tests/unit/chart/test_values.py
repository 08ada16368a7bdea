"""Values: each is described and known, and what does not fit is refused by its name."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rowlock_operator.kube.settings import parse_settings
from tests.support.chart_readme import README, described_values, readme, undescribed_values
from tests.support.charts import CHART, HelmError, helm, objects, render
from tests.unit.api.test_crd import CRD_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT = (CHART / "values.yaml").read_text()
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
#: Not the chart's own: Helm gives the one to every chart another depends on, and such a chart may use the other as its
#: condition.
OF_A_PARENT = {"global", "enabled"}


def properties(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        yield f"{path}{name}"
        yield from properties(part, f"{path}{name}.")


def test_every_value_is_described() -> None:
    assert undescribed_values(TEXT) == []


def test_the_readme_tells_what_values_yaml_does() -> None:
    assert README.read_text() == readme(), "make chart"


def test_the_schema_knows_the_values_and_no_others() -> None:
    def paths(value: Any, path: str = "") -> Iterator[str]:
        for name, part in value.items():
            yield f"{path}{name}"
            if isinstance(part, dict):
                yield from paths(part, f"{path}{name}.")

    known, written = set(properties(SCHEMA)) - OF_A_PARENT, set(paths(yaml.safe_load(TEXT)))
    free = {".".join(value.path) for value in described_values(TEXT) if isinstance(value.default, dict)}
    assert known - written == {"resources.claims"}
    assert {path for path in written - known if not path.startswith(tuple(f"{name}." for name in free))} == set()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("replica=3", ["replica"]),
        ("image.tags=edge", ["/image", "tags"]),
        ("crds.enabled=true", ["/crds", "enabled"]),
        ("networkPolicy.egress.restrict=true", ["/networkPolicy/egress", "restrict"]),
        ("metrics.serviceMonitor.intervall=1m", ["/metrics/serviceMonitor", "intervall"]),
        ("livenessProbe.period=1", ["/livenessProbe", "period"]),
        ("resources.limit.cpu=1", ["/resources", "limit"]),
        ("replicas=-1", ["/replicas", "-1", "0"]),
        ("replicas=two", ["/replicas", "integer"]),
        ("logLevel=trace", ["/logLevel", "debug", "info", "warning", "error"]),
        ("logFormat=xml", ["/logFormat", "json", "text"]),
        ("workers=257", ["/workers", "257", "256"]),
        ("resyncSeconds=0", ["/resyncSeconds", "0", "1"]),
        ("image.digest=sha256:12", ["/image/digest", "sha256:12"]),
        ("image.repository=operator@sha256:12", ["/image/repository", "operator@sha256:12"]),
        ("watchNamespaces={Team}", ["/watchNamespaces/0", "Team"]),
        ("watchNamespaces={a,a}", ["/watchNamespaces", "equal"]),
        ("watchNamespaces=a", ["/watchNamespaces", "array"]),
        ("podLabels.tier=1", ["/podLabels/tier", "string"]),
        ("resources.limits.memory=lots", ["/resources/limits/memory", "lots"]),
        ("strategy.type=Replace", ["/strategy/type", "RollingUpdate", "Recreate"]),
        ("fullnameOverride=" + "x" * 51, ["/fullnameOverride", "51", "50"]),
        ("imagePullSecrets={mirror}", ["/imagePullSecrets/0", "object"]),
        ("networkPolicy.egress.apiServerPorts={70000}", ["/networkPolicy/egress/apiServerPorts/0", "65,535"]),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(given: str, words: list[str]) -> None:
    with pytest.raises(HelmError) as refused:
        render(f"--set={given}")
    assert [word for word in words if word not in str(refused.value)] == []


def test_settings_have_the_bounds_that_the_operator_has() -> None:
    url = "--coordinator-url=http://rowlock:8480"
    for name, flag in (("workers", "--workers"), ("resyncSeconds", "--resync-seconds")):
        bounds = SCHEMA["properties"][name]
        for value in (bounds["minimum"], bounds["maximum"]):
            parse_settings([url, f"{flag}={value}"], {})
        for value in (bounds["minimum"] - 1, bounds["maximum"] + 1):
            with pytest.raises(SystemExit):
                parse_settings([url, f"{flag}={value}"], {})
    for name in ("logLevel", "logFormat"):
        flag = {"logLevel": "--log-level", "logFormat": "--log-format"}[name]
        for value in SCHEMA["properties"][name]["enum"]:
            parse_settings([url, f"{flag}={value}"], {})


def test_a_chart_may_depend_on_this_one(tmp_path: Path) -> None:
    """Helm gives `global` to it then, which a strict schema has to let through."""
    parent = tmp_path / "platform"
    (parent / "charts").mkdir(parents=True)
    helm("package", CHART, "--destination", parent / "charts")
    dependency = {"name": "rowlock", "version": "0.1.0", "repository": "", "condition": "rowlock.enabled"}
    chart = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
    given = {"global": {"region": "north"}, "rowlock": {"enabled": True, "replicas": 3}}
    (parent / "values.yaml").write_text(yaml.safe_dump(given))
    assert {"Deployment", "CustomResourceDefinition"} <= {body["kind"] for body in objects(render(chart=parent))}
    assert render("--set=rowlock.enabled=false", chart=parent).strip() == ""


def test_the_package_is_whole_and_holds_nothing_of_its_development(tmp_path: Path) -> None:
    helm("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.iterdir()
    with tarfile.open(package) as archive:
        names = {name.removeprefix("rowlock/") for name in archive.getnames()}
    assert {"LICENSE", "README.md", "values.schema.json", f"files/{CRD_PATH.name}"} <= names
    assert not [name for name in names if name.startswith("ci/")]
    assert objects(render(chart=package)) == objects(render())
