"""Watches a namespace and notes when each piece of news came: timestamps in objects only have whole seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.kube_api import JsonObject, KubeApi

#: How long one watch lasts, in seconds; the next goes on where it ended. A closed onlooker is gone after that.
WATCH_SECONDS = "30"


@dataclass(frozen=True)
class News:
    """One event of a watch."""

    #: When it came, in Unix time.
    time: float
    kind: str
    object: JsonObject

    @property
    def uid(self) -> str:
        """UID of what changed."""
        return str(self.object["metadata"]["uid"])


class Onlooker:
    """Watches collections from the moment it is made until it is closed."""

    def __init__(self, api: KubeApi, *paths: str) -> None:
        self._api = api
        self._closed = threading.Event()
        self._news: dict[str, list[News]] = {path: [] for path in paths}
        for path in paths:
            threading.Thread(target=self._watch, args=(path,), name=f"watch {path}", daemon=True).start()

    def close(self) -> None:
        """Note nothing more."""
        self._closed.set()

    def news(self, path: str) -> list[News]:
        """Return what has come from one collection so far, oldest first."""
        return list(self._news[path])

    def _watch(self, path: str) -> None:
        version = ""
        while not self._closed.is_set():
            try:
                since = {"resourceVersion": version} if version else {}
                for event in self._api.watch(path, timeoutSeconds=WATCH_SECONDS, **since):
                    if self._closed.is_set():
                        return
                    if event["type"] == "ERROR":
                        version = ""
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._news[path].append(News(time.time(), event["type"], event["object"]))
            except (OSError, ValueError):
                self._closed.wait(0.2)


def first_time(news: list[News], after: float, holds: Callable[[JsonObject], Any]) -> float | None:
    """Return when the first object for which `holds` came after a moment; None when none did."""
    return next((one.time for one in news if one.time > after and one.kind != "DELETED" and holds(one.object)), None)


def new_pods(news: list[News], after: float) -> dict[str, list[News]]:
    """Return the news of each pod that was first seen after a moment and is still there, by UID."""
    by_uid: dict[str, list[News]] = {}
    for one in news:
        by_uid.setdefault(one.uid, []).append(one)
    return {uid: told for uid, told in by_uid.items() if told[0].time > after and told[-1].kind != "DELETED"}


def pod_milestones(
    news: list[News], job_news: list[News], after: float, number: Callable[[JsonObject], int], old: int
) -> dict[str, float]:
    """Return when it was decided to replace pods, and when the last new one was created and had a node.

    Args:
        news: Of pods.
        job_news: Of the job.
        after: When a pod was deleted, in Unix time.
        number: Reads the crew's number from the job.
        old: That number before.
    """
    pods = new_pods(news, after)
    if not pods:
        return {}
    found = {"created": max(told[0].time for told in pods.values())}
    first_created = min(told[0].time for told in pods.values())
    counted = first_time(job_news, after, lambda body: number(body) > old)
    found["decided"] = min(first_created, counted or first_created)
    placed = [first_time(told, after, lambda pod: pod["spec"].get("nodeName")) for told in pods.values()]
    if all(placed):
        found["scheduled"] = max(moment for moment in placed if moment is not None)
    return found
