"""Helm, for the tests of the chart: what it renders, and what it does to a cluster.

`python -m tests.support.charts build` only makes sure that it is there.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.go_programs import BinariesError, program, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.kube_api import JsonObject

CHART = Path(__file__).parents[2] / "charts" / "rowlock"
#: Sets of values that stand for the ways the chart is used, by name.
VALUES = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
#: Where `render` installs it to.
RELEASE, NAMESPACE = "rowlock", "rowlock-system"
#: The first with `--take-ownership`, which the chart's README names.
OLDEST_HELM = (3, 17)


#: The definition alone has over a thousand lines, which the loader written in C reads ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class HelmError(Exception):
    """Helm refused; the message is its own."""


@functools.cache
def helm_path() -> Path:
    """Return Helm: one that is there and new enough, or the pinned one, built.

    Raises:
        BinariesError: there is none, and none can be built.
    """
    return program("helm", stamp="helm.sh/helm/v3/internal/version.version", fits=_new_enough)


def _new_enough(helm: Path) -> bool:
    answer = subprocess.run([helm, "version", "--short"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"v(\d+)\.(\d+)", answer)
    if match is not None and (int(match[1]), int(match[2])) >= OLDEST_HELM:
        return True
    say(f"{helm} says it is version {answer.strip()!r}, older than {OLDEST_HELM}: looking further")
    return False


def helm(*arguments: str | Path, kubeconfig: Path | None = None) -> str:
    """Run Helm; return what it printed.

    Helm gets folders of its own, so that nothing a person has configured takes part.

    Raises:
        HelmError: it ended with another code than 0.
    """
    with tempfile.TemporaryDirectory(prefix="rowlock-helm-") as home:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
        environ |= {f"HELM_{kind}_HOME": home for kind in ("CACHE", "CONFIG", "DATA")}
        environ["KUBECONFIG"] = str(kubeconfig or Path(home) / "none")
        command = [helm_path(), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if done.returncode != 0:
        raise HelmError(done.stderr or done.stdout)
    return done.stdout


@functools.cache
def render(*arguments: str | Path, values: Path | None = None, chart: Path = CHART) -> str:
    """Return what the chart comes to, as YAML; the same values of the same chart are asked for once.

    Args:
        arguments: Further ones for `helm template`, as ``--set=replicas=1``.
        values: A file of values.
        chart: The chart's folder or package.

    Raises:
        HelmError: Helm refuses the values or the chart.
    """
    given: Sequence[str | Path] = () if values is None else ("--values", values)
    # Of a Helm built from its module the default is a Kubernetes older than the chart takes.
    version = "--kube-version=1.30.0"
    return helm("template", RELEASE, chart, "--namespace", NAMESPACE, version, *given, *arguments)


def objects(rendered: str) -> list[JsonObject]:
    """Return the objects of rendered YAML."""
    return [body for body in yaml.load_all(rendered, Loader=LOADER) if body is not None]


def of_kind(bodies: list[JsonObject], kind: str) -> list[JsonObject]:
    """Return those of one kind."""
    return [body for body in bodies if body["kind"] == kind]


def pod_specs(bodies: list[JsonObject]) -> dict[str, dict[str, Any]]:
    """Return the specification of every pod that `bodies` make, by the name of the object that makes it."""
    pods = {body["metadata"]["name"]: body["spec"] for body in of_kind(bodies, "Pod")}
    return pods | {body["metadata"]["name"]: body["spec"]["template"]["spec"] for body in of_kind(bodies, "Deployment")}


if __name__ == "__main__":
    if sys.argv[1:] != ["build"]:
        sys.exit("usage: python -m tests.support.charts build")
    try:
        say(str(helm_path()))
    except BinariesError as error:
        sys.exit(str(error))
