"""Who is looked at when something is heard of an object."""

from __future__ import annotations

from typing import Any

from rowlock_operator.coordinator import Coordinator
from rowlock_operator.kube.feed import Feed
from rowlock_operator.kube.metrics import Metrics
from rowlock_operator.kube.observed import Cluster
from rowlock_operator.kube.queue import WorkQueue
from rowlock_operator.kube.resources import PODS
from rowlock_operator.resources.names import LABEL_JOB


class Looks(WorkQueue[tuple[str, str]]):
    """A queue that tells what was asked for."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.asked: set[tuple[str, str]] = set()

    def add(self, key: tuple[str, str]) -> None:
        self.asked.add(key)


def pod(version: str, job: str) -> dict[str, Any]:
    meta = {"namespace": "lab", "name": "p", "uid": "u", "resourceVersion": version, "labels": {LABEL_JOB: job}}
    return {"metadata": meta}


async def nobody(namespace: str, name: str) -> str | None:
    return None


def test_a_pod_whose_label_is_moved_to_another_job_is_news_for_both() -> None:
    looks = Looks()
    reconciler: Any = None  # asked about launchers only
    coordinator = Coordinator(token_of=nobody, on_change=lambda namespace, name: None)
    feed = Feed(Cluster(), looks, reconciler, coordinator, Metrics())
    feed.event(PODS, "ADDED", pod("1", "a"))
    assert looks.asked == {("lab", "a")}
    looks.asked.clear()
    feed.event(PODS, "MODIFIED", pod("2", "b"))
    assert looks.asked == {("lab", "a"), ("lab", "b")}
    looks.asked.clear()
    feed.event(PODS, "MODIFIED", pod("2", "b"))
    assert looks.asked == set(), "old news"
