"""What is told of pods becomes milestones only for those that took a lost one's place."""

from __future__ import annotations

from typing import Any

from benchmarks.cluster.onlooker import News, pod_milestones

DELETED_AT = 100.0


def pod(moment: float, uid: str, node: str = "", kind: str = "MODIFIED") -> News:
    spec = {"nodeName": node} if node else {}
    return News(moment, kind, {"metadata": {"uid": uid}, "spec": spec})


def job(moment: float, generation: int) -> News:
    return News(moment, "MODIFIED", {"metadata": {"uid": "job"}, "status": {"generation": generation}})


def number(body: dict[str, Any]) -> int:
    return int(body["status"]["generation"])


def milestones(pods: list[News], jobs: list[News]) -> dict[str, float]:
    return pod_milestones(pods, jobs, DELETED_AT, number, 3)


SURVIVOR = [pod(10.0, "survivor", kind="ADDED"), pod(11.0, "survivor", "node-1"), pod(101.0, "survivor", "node-1")]


def test_a_survivor_is_no_new_pod() -> None:
    assert milestones(SURVIVOR, [job(100.2, 4)]) == {}


def test_the_last_new_pod_counts() -> None:
    pods = [
        *SURVIVOR,
        pod(101.0, "first", kind="ADDED"),
        pod(101.5, "second", kind="ADDED"),
        pod(102.0, "second", "node-2"),
        pod(102.5, "first", "node-3"),
        pod(103.0, "second", "node-2"),
    ]
    assert milestones(pods, [job(100.1, 3), job(100.4, 4), job(104.0, 5)]) == {
        "decided": 100.4,
        "created": 101.5,
        "scheduled": 102.5,
    }


def test_a_pod_that_is_gone_again_is_not_waited_for() -> None:
    pods = [
        pod(101.0, "short-lived", kind="ADDED"),
        pod(101.2, "short-lived", kind="DELETED"),
        pod(102.0, "new", kind="ADDED"),
        pod(102.5, "new", "node-1"),
    ]
    assert milestones(pods, [job(100.4, 4)]) == {"decided": 100.4, "created": 102.0, "scheduled": 102.5}


def test_a_new_pod_is_a_decision_even_where_the_number_is_told_later() -> None:
    pods = [pod(101.0, "new", kind="ADDED"), pod(101.1, "new", "node-1")]
    assert milestones(pods, [job(105.0, 4)])["decided"] == 101.0
    assert milestones(pods, [])["decided"] == 101.0


def test_a_pod_without_a_node_is_not_scheduled() -> None:
    assert "scheduled" not in milestones([pod(101.0, "new", kind="ADDED")], [])
