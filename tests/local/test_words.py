"""What a run says of its pods and of the manifest is what is so."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rowlock.local.pods import LocalPods
from rowlock_operator.core.model import Pod
from tests.local.runs import finish, manifest, place, status

#: In the first generation rank 0 tells its launcher (its parent's parent) to go; both are ended by their launchers.
PREEMPT = """
import os, pathlib, signal, time
if os.environ["ROWLOCK_GENERATION"] == "1":
    if os.environ["RANK"] == "0":
        launcher = int(pathlib.Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(launcher, signal.SIGTERM)
    time.sleep(1000)
"""


def test_a_worker_told_to_go_is_preempted_and_no_loss(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=[sys.executable, "-c", PREEMPT])
    code, output = finish(path)
    assert code == 0, output
    found = status(path)
    assert (found["failures"]["count"], found["preemptions"]["count"]) == (0, 1)
    assert json.loads((place(path) / "recoveries.json").read_text()) == []


async def _ended(pods: LocalPods, changed: asyncio.Event) -> Pod:
    while not (found := pods.observed()) or not found[0].terminal:
        changed.clear()
        await asyncio.wait_for(changed.wait(), 60)
    return found[0]


@pytest.fixture
def pods() -> Iterator[LocalPods]:
    pods = LocalPods(warm=False)
    yield pods
    pods.close()


def test_a_pod_that_ends_says_why_in_its_launchers_own_words(tmp_path: Path, pods: LocalPods) -> None:
    async def one_life(environ: dict[str, str]) -> Pod:
        changed = asyncio.Event()
        pods.attach(changed.set)
        try:
            pods.start(0, pods.new_uid(), environ, tmp_path, spec_hash="abc", grace_seconds=5)
            return await _ended(pods, changed)
        finally:
            pods.close()

    pod = asyncio.run(one_life({"ROWLOCK_CONFIG": "{}"}))
    assert (pod.phase, pod.exit_code, pod.spec_hash) == ("Failed", 78, "abc")
    assert pod.message.startswith("ROWLOCK_CONFIG: WorkerConfig")
    assert pod.message == (tmp_path / "worker-0.end").read_text().strip()
    assert pod.running_since is None


def test_a_pod_that_waits_for_its_parents_imports_can_be_taken_back_at_once(tmp_path: Path, pods: LocalPods) -> None:
    async def change_of_mind() -> tuple[tuple[Pod, ...], tuple[Pod, ...]]:
        pods.attach(lambda: None)
        try:
            uid = pods.new_uid()
            pods.start(0, uid, {}, tmp_path, spec_hash="", grace_seconds=5)
            before = pods.observed()
            pods.delete(0, uid, None)
            return before, pods.observed()
        finally:
            pods.close()

    before, after = asyncio.run(change_of_mind())
    assert [pod.phase for pod in before] == ["Pending"]
    assert after == ()


def test_parts_of_a_manifest_that_mean_nothing_here_are_named_once(tmp_path: Path) -> None:
    source = {"secretKeyRef": {"name": "s", "key": "k"}}
    env = [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": source}]
    containers = [{"name": "trainer", "env": env, "resources": {"limits": {"cpu": "1"}}}, {"name": "beside"}]
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"nodeSelector": {"a": "b"}, "containers": containers}}
    path = manifest(
        tmp_path,
        command=["true"],
        image="mine:1",
        template=template,
        ttlSecondsAfterFinished=5,
        checkpoint={"retention": "Delete"},
    )
    code, output = finish(path)
    assert code == 0, output
    (line,) = [one for one in output.splitlines() if "without meaning on one machine" in one]
    assert line.partition(": ")[2].split(", ") == [
        "spec.image",
        "spec.template.metadata.labels",
        "spec.template.spec.nodeSelector",
        "spec.template.spec.containers[trainer].resources",
        "spec.template.spec.containers[trainer].env[B].valueFrom",
        "spec.template.spec.containers[beside]",
        "spec.checkpoint.retention: Delete",
        "spec.ttlSecondsAfterFinished",
    ]


def test_a_plain_manifest_is_not_lectured(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=["true"], template={"spec": {"terminationGracePeriodSeconds": 9}})
    assert "without meaning" not in finish(path)[1]
