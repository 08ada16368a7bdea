"""What may be changed while a job runs, what only while it is suspended, and what never."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.manifests import changed, command_job, trainer_job

if TYPE_CHECKING:
    from tests.support.kube_api import KubeApi

COMMAND, TRAINER = command_job(), trainer_job()
AFFINITY = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}

ALWAYS = [
    (COMMAND, "spec.workers", 3),
    (COMMAND, "spec.suspend", True),
    (COMMAND, "spec.recovery.maxFailures", 3),
    (COMMAND, "spec.activeDeadlineSeconds", 60),
    (COMMAND, "spec.ttlSecondsAfterFinished", 60),
    (TRAINER, "spec.workers", 4),
]
ONLY_SUSPENDED = [
    (COMMAND, "spec.image", "other", "image"),
    (COMMAND, "spec.command", ["other"], "command"),
    (COMMAND, "spec.processesPerWorker", 2, "processesPerWorker"),
    (COMMAND, "spec.checkpoint.everySteps", 7, "checkpoint.everySteps"),
    (COMMAND, "spec.checkpoint.everySeconds", 7, "checkpoint.everySeconds"),
    (COMMAND, "spec.checkpoint.keep", 7, "checkpoint.keep"),
    (COMMAND, "spec.template.metadata.labels", {"a": "b"}, "template"),
    (COMMAND, "spec.template.spec.hostNetwork", True, "template"),
    # Passed on as it is: the rules must see it all the same.
    (COMMAND, "spec.template.spec.affinity", AFFINITY, "template"),
    (COMMAND, "spec.template.spec.volumes", [{"name": "a", "emptyDir": {"medium": "Memory"}}], "template"),
    (COMMAND, "spec.template.spec.containers", [{"name": "trainer", "securityContext": {"a": 1}}], "template"),
    (TRAINER, "spec.trainer.steps", 20, "trainer"),
    (TRAINER, "spec.trainer.optimizer.adamw.learningRate", 0.5, "trainer"),
    (TRAINER, "spec.trainer.model.mlp.hidden", [3], "trainer"),
]
NEVER = [
    (COMMAND, "spec.checkpoint.storage.size", "20Gi", "storage"),
    (COMMAND, "spec.checkpoint.storage.claimName", "other", "storage"),
    (COMMAND, "spec.checkpoint.storage.accessMode", "ReadWriteMany", "storage"),
    (COMMAND, "spec.checkpoint.storage.storageClassName", "fast", "storage"),
    (COMMAND, "spec.checkpoint.retention", "Delete", "is set when the claim is created"),
    (COMMAND, "spec", {**TRAINER["spec"], "suspend": True}, "trainer and command"),
]


def update(api: KubeApi, namespace: str, manifest: dict[str, Any], path: str, value: Any) -> tuple[int, str]:
    """Create the job, put it with one field changed, and give back how that went."""
    jobs = f"/apis/rowlock.dev/v1alpha1/namespaces/{namespace}/distributedtrainingjobs"
    stored = api.create(jobs, manifest).ok()
    answer = api.replace(f"{jobs}/{manifest['metadata']['name']}", changed(stored, path, value))
    return answer.status, answer.message


@pytest.mark.parametrize(("manifest", "path", "value"), ALWAYS, ids=lambda value: str(value)[:40])
def test_may_be_changed_while_running(
    api: KubeApi, namespace: str, manifest: dict[str, Any], path: str, value: Any
) -> None:
    assert update(api, namespace, manifest, path, value) == (200, "")


@pytest.mark.parametrize(("manifest", "path", "value", "names"), ONLY_SUSPENDED, ids=lambda value: str(value)[:40])
def test_may_be_changed_only_while_suspended(
    api: KubeApi, namespace: str, manifest: dict[str, Any], path: str, value: Any, names: str
) -> None:
    suspended = changed(changed(manifest, "spec.suspend", True), "metadata.name", "asleep")
    assert update(api, namespace, suspended, path, value) == (200, "")
    status, message = update(api, namespace, manifest, path, value)
    assert status == 422
    assert f"{names} can be changed only while suspended" in message


@pytest.mark.parametrize(("manifest", "path", "value", "names"), NEVER, ids=lambda value: str(value)[:40])
def test_can_never_be_changed(
    api: KubeApi, namespace: str, manifest: dict[str, Any], path: str, value: Any, names: str
) -> None:
    status, message = update(api, namespace, changed(manifest, "spec.suspend", True), path, value)
    assert status == 422
    assert names in message


def test_one_write_may_both_change_and_resume(api: KubeApi, namespace: str) -> None:
    suspended = changed(COMMAND, "spec.suspend", True)
    resumed = {**COMMAND["spec"], "image": "other", "suspend": False}
    assert update(api, namespace, suspended, "spec", resumed) == (200, "")


def test_one_write_may_not_both_change_and_suspend(api: KubeApi, namespace: str) -> None:
    halted = {**COMMAND["spec"], "image": "other", "suspend": True}
    status, message = update(api, namespace, COMMAND, "spec", halted)
    assert status == 422
    assert "image can be changed only while suspended" in message
