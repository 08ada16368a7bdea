"""The map of what the cluster holds never goes backwards, whatever order news comes in."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rowlock_operator.kube.observed import Collection

JOB = ("lab", "digits")


def pod(uid: str, version: int | str, name: str = "digits-worker-0", job: str = "digits") -> dict[str, Any]:
    labels = {"rowlock.dev/job": job}
    return {
        "metadata": {"namespace": "lab", "name": name, "uid": uid, "resourceVersion": str(version), "labels": labels}
    }


def held(pods: Collection) -> list[tuple[str, str]]:
    return [(body["metadata"]["uid"], body["metadata"]["resourceVersion"]) for body in pods.of_job(*JOB)]


def test_an_older_version_changes_nothing() -> None:
    pods = Collection()
    assert pods.put(pod("a", 10))
    assert not pods.put(pod("a", 9))
    assert not pods.put(pod("a", 10))
    assert pods.put(pod("a", 11))
    assert held(pods) == [("a", "11")]


def test_a_version_longer_by_a_digit_is_newer() -> None:
    pods = Collection()
    pods.put(pod("a", 9))
    assert pods.put(pod("a", 10))


def test_news_of_a_dead_pod_does_not_displace_its_successor() -> None:
    pods = Collection()
    pods.put(pod("a", 10))
    pods.put(pod("b", 20))
    assert not pods.remove(pod("a", 19))
    assert not pods.put(pod("a", 18))
    assert held(pods) == [("b", "20")]


def test_what_was_seen_deleted_does_not_come_back_by_older_news() -> None:
    pods = Collection()
    pods.put(pod("a", 10))
    assert pods.remove(pod("a", 12))
    assert not pods.put(pod("a", 11))
    # The answer to the request that deleted it, overtaken by the watch.
    assert not pods.put(pod("a", 12))
    assert held(pods) == []


def test_a_pod_that_a_list_no_longer_holds_does_not_come_back_by_older_news() -> None:
    for within in (None, JOB):
        pods = Collection()
        pods.put(pod("a", 10))
        pods.replace([], "20", within)
        assert not pods.put(pod("a", 15))
        assert held(pods) == []


def test_a_pod_that_loses_its_label_and_gets_it_back_is_seen_again() -> None:
    """A watch by label tells the loss as a deletion, and a list as an absence."""
    pods = Collection()
    pods.put(pod("a", 10))
    pods.remove(pod("a", 11))
    assert pods.put(pod("a", 12))
    pods.replace([], "20")
    assert pods.put(pod("a", 21))
    assert held(pods) == [("a", "21")]


def test_what_the_server_said_to_be_no_more_never_comes_back() -> None:
    pods = Collection()
    pods.put(pod("a", 10))
    assert pods.remove_for_good(pod("a", 10))
    assert not pods.put(pod("a", 12))
    assert not pods.remove(pod("a", 13))
    assert not pods.put(pod("a", 14))
    assert held(pods) == []


def test_where_versions_are_no_numbers_what_was_seen_deleted_never_comes_back() -> None:
    pods = Collection()
    pods.put(pod("a", "x"))
    pods.remove(pod("a", "y"))
    assert not pods.put(pod("a", "z"))


def test_a_list_finds_what_vanished_and_names_its_job() -> None:
    pods = Collection()
    pods.put(pod("a", 10))
    pods.put(pod("b", 11, "digits-worker-1"))
    assert pods.replace([pod("a", 10)], "20") == {JOB}
    assert held(pods) == [("a", "10")]


def test_a_list_does_not_undo_news_that_came_after_it_was_taken() -> None:
    pods = Collection()
    pods.put(pod("a", 30))
    assert pods.replace([], "20") == set()
    assert held(pods) == [("a", "30")]


def test_news_from_before_the_list_is_no_news() -> None:
    pods = Collection()
    pods.replace([], "20")
    assert not pods.put(pod("a", 15))
    assert pods.put(pod("b", 25))


def test_a_list_of_one_job_leaves_the_others_alone() -> None:
    pods = Collection()
    pods.put(pod("a", 10))
    pods.put(pod("x", 11, "other-worker-0", job="other"))
    pods.replace([], "20", within=JOB)
    assert held(pods) == []
    assert len(pods) == 1


def test_versions_that_are_no_numbers_are_taken_as_they_come() -> None:
    pods = Collection()
    pods.put(pod("a", "zz"))
    assert pods.put(pod("a", "aa"))
    assert held(pods) == [("a", "aa")]


@given(st.permutations(range(6)))
def test_the_end_is_the_same_in_any_order(order: list[int]) -> None:
    """Pod a lives and dies, pod b takes its name: whatever overtakes what, b's newest version is held."""
    happenings = [
        ("put", pod("a", 1)), ("put", pod("a", 2)), ("remove", pod("a", 3)),
        ("put", pod("b", 4)), ("put", pod("b", 5)), ("put", pod("b", 6)),
    ]  # fmt: skip
    pods = Collection()
    for index in order:
        kind, body = happenings[index]
        getattr(pods, kind)(body)
    assert held(pods) == [("b", "6")]
