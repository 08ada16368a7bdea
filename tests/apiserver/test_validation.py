"""A laptop and a cluster refuse the same manifests, and both say which field is wrong.

Each case changes one field of a valid manifest. The loader reads it as a file; the API server gets it with
strict field validation, as kubectl sends it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rowlock.api.manifest import ManifestError, load_manifest, parse_manifest
from rowlock.api.v1alpha1 import DistributedTrainingJob
from tests.support.manifests import ABSENT, as_stored, changed, command_job, trainer_job

if TYPE_CHECKING:
    from tests.support.kube_api import KubeApi

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
COMMAND, TRAINER = command_job(), trainer_job()
POD = "spec.template.spec"
LONG = "x" * 40_000


def jobs(namespace: str) -> str:
    return f"/apis/rowlock.dev/v1alpha1/namespaces/{namespace}/distributedtrainingjobs"


def mounting(container: str, path: str) -> dict[str, Any]:
    return {"name": container, "volumeMounts": [{"name": "data", "mountPath": path}]}


# A valid manifest, the field that is changed, its value, and the words both sides must use: the field's name.
BAD: list[tuple[dict[str, Any], str, Any, str]] = [
    (COMMAND, "spec.workers", 0, "workers"),
    (COMMAND, "spec.workers", -1, "workers"),
    (COMMAND, "spec.workers", 1025, "workers"),
    (COMMAND, "spec.workers", "4", "workers"),
    (COMMAND, "spec.workers", 1.5, "workers"),
    (COMMAND, "spec.workers", True, "workers"),
    (COMMAND, "spec.workers", [4], "workers"),
    (COMMAND, "spec.wrokers", 4, "wrokers"),
    (COMMAND, "spec.processesPerWorker", 65, "processesPerWorker"),
    (COMMAND, "spec.processes_per_worker", 2, "processes_per_worker"),
    (COMMAND, "spec.image", "", "image"),
    (COMMAND, "spec.image", 5, "image"),
    (COMMAND, "spec.suspend", "yes", "suspend"),
    (COMMAND, "spec.command", ABSENT, "command"),
    (COMMAND, "spec.command", [], "command"),
    (COMMAND, "spec.command", "python train.py", "command"),
    (COMMAND, "spec.command", ["python", 1], "command"),
    (COMMAND, "spec.command", [""], "command"),
    (COMMAND, "spec.command", [LONG], "command"),
    (COMMAND, "spec.command", ["x" * 10_000, "y" * 10_001], "20000 bytes in all"),
    (COMMAND, "spec.command", ["\u00e9" * 10_001], "20000 bytes in all"),
    (COMMAND, "spec.trainer", TRAINER["spec"]["trainer"], "trainer"),
    (COMMAND, "spec.activeDeadlineSeconds", 0, "activeDeadlineSeconds"),
    (COMMAND, "spec.command", None, "command"),
    (COMMAND, "spec.ttlSecondsAfterFinished", -1, "ttlSecondsAfterFinished"),
    (COMMAND, "spec.checkpoint.keep", 1, "keep"),
    (COMMAND, "spec.checkpoint.everySteps", -1, "everySteps"),
    (COMMAND, "spec.checkpoint.everySeconds", 86_401, "everySeconds"),
    (COMMAND, "spec.checkpoint.retention", "Keep", "retention"),
    (COMMAND, "spec.checkpoint.storage.size", "10 GB", "size"),
    (COMMAND, "spec.checkpoint.storage.size", -5, "size"),
    (COMMAND, "spec.checkpoint.storage.size", 1.5, "size"),
    (COMMAND, "spec.checkpoint.storage.accessMode", "ReadOnlyMany", "accessMode"),
    (COMMAND, "spec.checkpoint.storage.storageClassName", "Fast SSD", "storageClassName"),
    (COMMAND, "spec.checkpoint.storage", {"claimName": "a", "storageClassName": "b"}, "claimName"),
    (COMMAND, "spec.checkpoint", {"retention": "Delete", "storage": {"claimName": "a"}}, "retention"),
    (COMMAND, "spec.recovery.maxFailures", -1, "maxFailures"),
    (COMMAND, "spec.recovery.maxPreemptions", 1_000_001, "maxPreemptions"),
    (COMMAND, "spec.recovery.backoff", {"initialSeconds": 60, "maxSeconds": 5}, "initialSeconds"),
    (COMMAND, "spec.recovery.retryableExitCodes", [0], "retryableExitCodes"),
    (COMMAND, "spec.recovery.retryableExitCodes", [256], "retryableExitCodes"),
    (COMMAND, "spec.recovery.retryableExitCodes", list(range(1, 66)), "retryableExitCodes"),
    (COMMAND, f"{POD}.restartPolicy", "Always", "restartPolicy"),
    (COMMAND, f"{POD}.containers", [{"image": "a"}], "name"),
    (COMMAND, f"{POD}.containers", [{"name": "a"}, {"name": "a"}], "containers"),
    (COMMAND, f"{POD}.containers", [{"name": f"c{i}"} for i in range(9)], "containers"),
    (COMMAND, f"{POD}.containers", [{"name": "trainer", "command": ["x"]}], "command"),
    (COMMAND, f"{POD}.containers", [{"name": "trainer", "args": ["x"]}], "command"),
    (COMMAND, f"{POD}.containers", [{"name": "trainer", "env": [{"name": "A", "value": 5}]}], "value"),
    (COMMAND, f"{POD}.containers", [{"name": "trainer", "env": [{"name": "A", "value": True}]}], "value"),
    (COMMAND, f"{POD}.containers", [{"name": "a", "resources": {"limits": {"cpu": "lots"}}}], "cpu"),
    (COMMAND, f"{POD}.containers", [{"name": "a", "resources": {"limits": {"cpu": 1.5}}}], "cpu"),
    (COMMAND, f"{POD}.containers", [{"name": "a", "imagePullPolicy": "Sometimes"}], "imagePullPolicy"),
    (COMMAND, f"{POD}.containers", [{"name": "a", "volumeMounts": [{"name": "v"}]}], "mountPath"),
    (COMMAND, f"{POD}.containers", [mounting("trainer", "/checkpoints")], "/checkpoints"),
    (COMMAND, f"{POD}.containers", [mounting("trainer", "/var/run/rowlock//")], "/var/run/rowlock"),
    (COMMAND, f"{POD}.containers", [mounting("trainer", "/opt/rowlock")], "/opt/rowlock"),
    (COMMAND, f"{POD}.containers", [{"name": "rowlock-logs"}], "containers must not begin with rowlock-"),
    (COMMAND, f"{POD}.initContainers", [{"name": "rowlock-fetch"}], "initContainers must not begin with rowlock-"),
    (COMMAND, f"{POD}.volumes", [{"name": "rowlock-token"}], "volumes must not begin with rowlock-"),
    (COMMAND, f"{POD}.tolerations", [{"effect": "Never"}], "effect"),
    (COMMAND, f"{POD}.volumes", [{"emptyDir": {}}], "name"),
    (COMMAND, f"{POD}.nodeSelector", {"disk": True}, "nodeSelector"),
    (COMMAND, f"{POD}.affinity", "near", "affinity"),
    (COMMAND, f"{POD}.terminationGracePeriodSeconds", 0, "terminationGracePeriodSeconds"),
    (COMMAND, "metadata.name", "Digits", "name"),
    (COMMAND, "metadata.name", "3b-run", "name"),
    (COMMAND, "metadata.name", "x" * 51, "name"),
    (COMMAND, "metadata.lables", {"a": "b"}, "lables"),
    (COMMAND, "spec", ABSENT, "spec"),
    (COMMAND, "sepc", {}, "sepc"),
    (TRAINER, "spec.trainer.steps", ABSENT, "steps"),
    (TRAINER, "spec.trainer.steps", 0, "steps"),
    (TRAINER, "spec.trainer.data", "digts", "data"),
    (TRAINER, "spec.trainer.data", "python-text", "data"),
    (TRAINER, "spec.trainer.model", {}, "mlp"),
    (TRAINER, "spec.trainer.model", {"mlp": {}, "cnn": {}}, "mlp"),
    (TRAINER, "spec.trainer.model", {"mlp": {"hidden": [0]}}, "hidden"),
    (TRAINER, "spec.trainer.model", {"mlp": {"dropout": 1}}, "dropout"),
    (TRAINER, "spec.trainer.model", {"cnn": {"channels": []}}, "channels"),
    (TRAINER, "spec.trainer.optimizer", {}, "sgd"),
    (TRAINER, "spec.trainer.optimizer", {"sgd": {}, "adamw": {}}, "sgd"),
    (TRAINER, "spec.trainer.optimizer", {"sgd": {"learningRate": 0}}, "learningRate"),
    (TRAINER, "spec.trainer.optimizer", {"adamw": {"learningRate": "1e-3"}}, "learningRate"),
    (TRAINER, "spec.trainer.optimizer", {"adam": {}}, "adam"),
    (TRAINER, "spec.trainer.schedule.name", "step", "name"),
    (TRAINER, "spec.trainer.schedule.warmupSteps", 11, "warmupSteps"),
    (TRAINER, "spec.trainer.globalBatchSize", 0, "globalBatchSize"),
    (TRAINER, "spec.trainer.accumulationSteps", 3, "globalBatchSize"),
    (TRAINER, "spec.workers", 3, "globalBatchSize"),
    (TRAINER, "spec.trainer.seed", 2**31, "seed"),
    (TRAINER, "spec.trainer.device", "tpu", "device"),
    (
        changed(TRAINER, "spec.trainer.data", "python-text"),
        "spec.trainer.model",
        {"gpt": {"width": 65, "heads": 4}},
        "width",
    ),
]


def name_of(case: tuple[dict[str, Any], str, Any, str]) -> str:
    value = "absent" if case[2] is ABSENT else json.dumps(case[2])
    return f"{case[1]}={value[:40]}"


@pytest.mark.parametrize(("valid", "path", "value", "names"), BAD, ids=map(name_of, BAD))
def test_what_the_api_server_refuses_is_refused_on_a_laptop(
    api: KubeApi, valid: dict[str, Any], path: str, value: Any, names: str
) -> None:
    manifest = changed(valid, path, value)
    # A dry run goes through all of validation and leaves nothing to clean up.
    answer = api.create(jobs("default"), manifest, fieldValidation="Strict", dryRun="All")
    assert answer.status in {400, 422}, f"the API server took it: {answer.body}"
    assert names in answer.message

    with pytest.raises(ManifestError) as caught:
        parse_manifest(json.dumps(manifest, indent=1).encode(), "job.json")
    (problem,) = caught.value.problems
    assert names in str(problem)
    assert problem.position is not None
    assert "\n" not in str(problem)


GOOD: dict[str, dict[str, Any]] = {
    "smallest command": COMMAND,
    "smallest trainer": TRAINER,
    "empty object is its default": changed(COMMAND, "spec.recovery", None),
    "empty optional field is absent": changed(COMMAND, "spec.activeDeadlineSeconds", None),
    "empty number is its default": changed(COMMAND, "spec.checkpoint", {"keep": None, "storage": None}),
    "whole number as quantity": changed(COMMAND, "spec.checkpoint.storage.size", 1_000_000),
    "exponent as quantity": changed(COMMAND, "spec.checkpoint.storage.size", "1e9"),
    "gpt": changed(changed(TRAINER, "spec.trainer.data", "python-text"), "spec.trainer.model", {"gpt": {"width": 32}}),
    "sgd alone": changed(TRAINER, "spec.trainer.optimizer", {"sgd": {}}),
    "two containers and volumes": changed(
        COMMAND,
        POD,
        {
            "containers": [
                {"name": "trainer", "resources": {"limits": {"nvidia.com/gpu": 1, "cpu": "500m"}}},
                {"name": "logs", "image": "logger", "args": ["-f"], "env": [{"name": "A"}, {"name": "A"}]},
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
            "tolerations": [{"operator": "Exists"}],
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpu"}],
        },
    ),
    "longest command": changed(COMMAND, "spec.command", ["\u00e9" * 5_000, "x" * 10_000]),
    "volumes called as one likes, ours mounted beside the trainer": changed(
        COMMAND,
        POD,
        {
            "containers": [mounting("trainer", "/checkpoints-of-old"), mounting("board", "/checkpoints")],
            "volumes": [{"name": name} for name in ("data", "tmp", "token", "checkpoints", "my-rowlock-x")],
        },
    ),
    "largest crew": changed(COMMAND, "spec.workers", 1024),
}


@pytest.mark.parametrize("manifest", GOOD.values(), ids=GOOD)
def test_a_valid_manifest_means_the_same_on_a_laptop_and_on_a_cluster(api: KubeApi, manifest: dict[str, Any]) -> None:
    stored = api.create(jobs("default"), manifest, fieldValidation="Strict", dryRun="All").ok()
    local = parse_manifest(json.dumps(manifest, indent=1).encode(), "job.json")
    assert DistributedTrainingJob.model_validate_json(json.dumps(stored), strict=True).spec == local.spec
    # Every default the models fill in is one that the API server fills in and shows.
    assert stored["spec"] == as_stored(local, manifest)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_accepted(api: KubeApi, path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    stored = api.create(jobs("default"), manifest, fieldValidation="Strict", dryRun="All").ok()
    assert stored["spec"] == as_stored(load_manifest(path), manifest)


def test_there_are_examples() -> None:
    assert EXAMPLES
