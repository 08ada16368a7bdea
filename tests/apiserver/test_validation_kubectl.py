"""What a person at kubectl sees: columns, explanations, scale, and YAML read the way the loader reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rowlock.api.manifest import parse_manifest
from rowlock.api.v1alpha1 import JobStatus
from tests.support.manifests import changed, command_job, trainer_job

if TYPE_CHECKING:
    from tests.support.control_plane import ControlPlane
    from tests.support.kube_api import KubeApi

STATUS = {
    "phase": "Running",
    "workersReady": "3/4",
    "generation": 7,
    "restarts": 6,
    "replicas": 4,
    "selector": "rowlock.dev/job=digits",
    "failures": {"count": 4},
    "preemptions": {"count": 2},
    "progress": {
        "step": 120,
        "totalSteps": 600,
        "percent": 20,
        "epoch": "8.53",
        "loss": "0.0421",
        "samplesPerSecond": "5210",
        "secondsLeft": 12,
        "time": "2026-01-31T12:00:00Z",
    },
    "lastCheckpoint": {"step": 100, "name": "step-100", "sizeBytes": 1234, "time": "2026-01-31T12:00:00Z"},
}


@pytest.fixture
def running(api: KubeApi, namespace: str) -> str:
    """Namespace of a job named digits that has a full status."""
    jobs = f"/apis/rowlock.dev/v1alpha1/namespaces/{namespace}/distributedtrainingjobs"
    api.create(jobs, trainer_job(workers=4)).ok()
    api.merge(f"{jobs}/digits/status", {"status": STATUS}, fieldValidation="Strict").ok()
    return namespace


def table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_get_shows_a_job_in_one_line(control_plane: ControlPlane, running: str) -> None:
    header, row = table(control_plane.kubectl("get", "dtj", "-n", running).stdout)
    assert header == ["NAME", "PHASE", "WORKERS", "STEP", "LOSS", "CHECKPOINT", "RESTARTS", "AGE"]
    assert row[:-1] == ["digits", "Running", "3/4", "120", "0.0421", "100", "6"]


def test_get_wide_adds_totals_throughput_and_causes(control_plane: ControlPlane, running: str) -> None:
    header, row = table(control_plane.kubectl("get", "dtj", "-n", running, "-o", "wide").stdout)
    assert header[8:] == ["TOTAL-STEPS", "SAMPLES/S", "GENERATION", "FAILURES", "PREEMPTIONS"]
    assert row[8:] == ["600", "5210", "7", "4", "2"]


@pytest.mark.parametrize("name", ["training", "ai", "distributedtrainingjobs", "distributedtrainingjob", "dtj"])
def test_jobs_are_found_by_every_name_of_theirs(control_plane: ControlPlane, running: str, name: str) -> None:
    assert "digits" in control_plane.kubectl("get", name, "-n", running, "-o", "name").stdout


def test_explain_describes_a_field(control_plane: ControlPlane) -> None:
    told = control_plane.kubectl("explain", "dtj.spec.trainer.globalBatchSize")
    assert told.returncode == 0, told.stderr
    assert "Samples per optimizer step over the whole crew." in told.stdout
    assert "<integer>" in told.stdout


def test_explain_lists_the_choices(control_plane: ControlPlane) -> None:
    told = control_plane.kubectl("explain", "dtj.spec.checkpoint.retention").stdout
    assert told.split("ENUM:")[1].split()[:2] == ["Retain", "Delete"]


def test_scale_sets_the_workers(control_plane: ControlPlane, running: str) -> None:
    done = control_plane.kubectl("scale", "dtj/digits", "-n", running, "--replicas=8", "--current-replicas=4")
    assert done.returncode == 0, done.stderr
    shown = control_plane.kubectl("get", "dtj/digits", "-n", running, "-o", "jsonpath={.spec.workers}").stdout
    assert shown == "8"


def test_scale_to_what_does_not_divide_the_batch_is_refused(control_plane: ControlPlane, running: str) -> None:
    done = control_plane.kubectl("scale", "dtj/digits", "-n", running, "--replicas=5")
    assert done.returncode != 0
    assert "trainer.globalBatchSize must be a multiple of workers" in done.stderr


def test_scale_shows_pods_and_selector_to_autoscalers(api: KubeApi, running: str) -> None:
    path = f"/apis/rowlock.dev/v1alpha1/namespaces/{running}/distributedtrainingjobs/digits/scale"
    scale = api.get(path).ok()
    assert scale["spec"] == {"replicas": 4}
    assert scale["status"] == {"replicas": 4, "selector": "rowlock.dev/job=digits"}


def test_a_new_job_has_no_status_until_the_operator_writes_one(api: KubeApi, namespace: str) -> None:
    jobs = f"/apis/rowlock.dev/v1alpha1/namespaces/{namespace}/distributedtrainingjobs"
    assert "status" not in api.create(jobs, changed(command_job(), "status.phase", "Succeeded")).ok()


def test_the_status_that_the_operator_begins_with_is_stored_as_it_is(api: KubeApi, namespace: str) -> None:
    jobs = f"/apis/rowlock.dev/v1alpha1/namespaces/{namespace}/distributedtrainingjobs"
    stored = api.create(jobs, command_job()).ok()
    status = JobStatus().model_dump(mode="json", by_alias=True, exclude_none=True)
    answer = api.replace(f"{jobs}/plain/status", {**stored, "status": status}, fieldValidation="Strict")
    assert answer.ok()["status"] == status


@pytest.mark.parametrize(
    ("path", "value", "names"),
    [
        ("phase", "Sleeping", "phase"),
        ("restarts", -1, "restarts"),
        ("progress", {"step": 3}, "totalSteps"),
        ("lastCheckpoint.time", "yesterday", "time"),
    ],
)
def test_a_wrong_status_is_refused(api: KubeApi, running: str, path: str, value: Any, names: str) -> None:
    jobs = f"/apis/rowlock.dev/v1alpha1/namespaces/{running}/distributedtrainingjobs"
    stored = api.get(f"{jobs}/digits").ok()
    answer = api.replace(f"{jobs}/digits/status", changed(stored, f"status.{path}", value))
    assert answer.status == 422
    assert names in answer.message


# Inside an object that is passed on as it is, so that nothing but YAML decides what a scalar means.
SCALARS = """\
apiVersion: rowlock.dev/v1alpha1
kind: DistributedTrainingJob
metadata: {name: scalars}
spec:
  command: [python]
  template:
    spec:
      affinity:
        words: [yes, No, on, OFF, y, N, true, False, yEs, none, ~x, Yes!]
        quoted: ["yes", 'no', "5", !!str 5, "null"]
        numbers: [0, -1, +1, 1_000, 0x1F, 0b101, 010, 0o17, 08, 1e3, 1e-3, 1.5E+2, .5, 5., 1.0, 4e0, 12e03]
        likeNumbers: [12:30:45, 1:30, 2026-01-31, 2026-01-31T12:00:00Z, 1.2.3, 1e, 0x, "-", ., +, 1Gi, 500m]
        longNumbers: [9007199254740993, 9223372036854775807, 0.1, 123456789.125]
        blocks:
          folded: >-
            one
            two
          literal: |
            one
            two
        anchored: &anchor {a: 1, b: 2}
        aliased: *anchor
        merged: {<<: *anchor, b: 3}
        twoMerged: {<<: [*anchor, {a: 9, c: 4}]}
        5: number as key
"""


def test_scalars_mean_to_the_loader_what_they_mean_to_kubectl(control_plane: ControlPlane) -> None:
    words = ("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-")
    done = control_plane.kubectl(*words, stdin=SCALARS)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)["spec"]["template"]["spec"]["affinity"]
    ours = parse_manifest(SCALARS.encode(), "job.yaml").spec.template.spec.affinity
    assert ours == theirs


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("spec: {command: [a], image: no}\n", "image"),
        ("spec: {command: [a], image: 1.10}\n", "image"),
        ("spec:\n\tcommand: [a]\n", "tab"),
        ("spec: {command: [a]\n", ""),
        ("spec: {command: [a], workers: .inf}\n", ""),
    ],
    ids=["no as text", "number as text", "tab", "unclosed", "infinity"],
)
def test_yaml_that_kubectl_refuses_is_refused_here(control_plane: ControlPlane, text: str, names: str) -> None:
    manifest = f"apiVersion: rowlock.dev/v1alpha1\nkind: DistributedTrainingJob\nmetadata: {{name: a}}\n{text}"
    done = control_plane.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=manifest)
    assert done.returncode != 0
    with pytest.raises(ValueError, match=rf"^job\.yaml:\d+:\d+: .*{names}"):
        parse_manifest(manifest.encode(), "job.yaml")


def test_apply_may_choose_another_optimizer_than_the_default(control_plane: ControlPlane, namespace: str) -> None:
    """A default that the API server stored would stand beside the one applied, and both is refused."""

    def apply(optimizer: dict[str, Any]) -> str:
        manifest = changed(trainer_job(suspend=True), "spec.trainer.optimizer", optimizer)
        done = control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(manifest))
        assert done.returncode == 0, done.stderr
        path = "jsonpath={.spec.trainer.optimizer}"
        return control_plane.kubectl("get", "dtj/digits", "-n", namespace, "-o", path).stdout

    created = control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(trainer_job(suspend=True)))
    assert created.returncode == 0, created.stderr
    assert "sgd" in apply({"sgd": {}})
    switched = apply({"adamw": {"learningRate": 0.5}})
    assert "adamw" in switched
    assert "sgd" not in switched
