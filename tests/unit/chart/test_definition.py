"""The chart brings the CustomResourceDefinition that the models make, and no uninstallation takes jobs with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from tests.support.charts import CHART, objects, of_kind, render
from tests.support.control_plane import CRD_PATH

if TYPE_CHECKING:
    from tests.support.kube_api import JsonObject


def definition(*arguments: str) -> JsonObject:
    (found,) = of_kind(objects(render(*arguments)), "CustomResourceDefinition")
    return found


def test_the_charts_copy_is_the_one_of_the_models() -> None:
    assert (CHART / "files" / CRD_PATH.name).read_text() == CRD_PATH.read_text(), "make crd"


def test_it_is_rendered_as_it_is() -> None:
    rendered, source = definition(), yaml.safe_load(CRD_PATH.read_text())
    del rendered["metadata"]["labels"], rendered["metadata"]["annotations"]
    assert rendered == source


def test_it_survives_the_release_unless_told_otherwise() -> None:
    policy = "helm.sh/resource-policy"
    assert definition()["metadata"]["annotations"] == {policy: "keep"}
    assert "annotations" not in definition("--set=crds.keep=false")["metadata"]


def test_it_carries_the_annotations_given_and_stays_kept() -> None:
    given = r"--set-string=crds.annotations.helm\.sh/resource-policy=drop,crds.annotations.owner=us"
    assert definition(given)["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep", "owner": "us"}


def test_somebody_else_may_bring_it() -> None:
    assert of_kind(objects(render("--set=crds.install=false")), "CustomResourceDefinition") == []
