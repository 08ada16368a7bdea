"""Events on a real API server: told once, counted when repeated, never a flood."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from rowlock_operator.core.model import Event
from rowlock_operator.kube.client import Client
from rowlock_operator.kube.credentials import load_configuration
from rowlock_operator.kube.events import BURST, EventRecorder
from rowlock_operator.kube.metrics import Metrics
from tests.support.control_plane import ControlPlane
from tests.support.kube_api import JsonObject, KubeApi


@dataclass(frozen=True)
class Subject:
    namespace: str
    name: str = "digits"
    uid: str = "0b5c0f0e-6f60-4f8e-9a53-0d8f3f1f2a11"


def tell(
    plane: ControlPlane, namespace: str, *rounds: tuple[Event, ...], clock: Callable[[], float] = lambda: 0.0
) -> None:
    """Tell events as one operator would from start to end."""

    async def main() -> None:
        async with Client(await load_configuration(plane.kubeconfig), Metrics()) as client:
            recorder = EventRecorder(client, clock)
            for events in rounds:
                await recorder.tell(Subject(namespace), events)

    asyncio.run(main())


def events(api: KubeApi, namespace: str) -> list[JsonObject]:
    return api.list(f"/api/v1/namespaces/{namespace}/events")


def test_a_repeated_event_is_one_object_with_a_count(control_plane: ControlPlane, api: KubeApi, namespace: str) -> None:
    again = (Event("Warning", "PodFailed", "worker 1: its pod ended"),)
    tell(control_plane, namespace, again, again, again)
    (event,) = events(api, namespace)
    assert (event["count"], event["type"], event["reason"]) == (3, "Warning", "PodFailed")
    assert event["involvedObject"]["name"] == "digits"


def test_an_event_with_a_key_is_told_once_even_by_a_restarted_operator(
    control_plane: ControlPlane, api: KubeApi, namespace: str
) -> None:
    notice = (Event("Normal", "Resumed", "from step 40", key="pod-1/n1"),)
    tell(control_plane, namespace, notice, notice)
    tell(control_plane, namespace, notice)
    (event,) = events(api, namespace)
    assert event["count"] == 1


def test_an_event_that_ran_out_is_told_anew(control_plane: ControlPlane, api: KubeApi, namespace: str) -> None:
    again = (Event("Warning", "PodFailed", "worker 1"),)

    async def main() -> None:
        async with Client(await load_configuration(control_plane.kubeconfig), Metrics()) as client:
            recorder = EventRecorder(client)
            await recorder.tell(Subject(namespace), again)
            (first,) = events(api, namespace)
            api.delete(f"/api/v1/namespaces/{namespace}/events/{first['metadata']['name']}").ok()
            await recorder.tell(Subject(namespace), again)

    asyncio.run(main())
    (event,) = events(api, namespace)
    assert event["count"] == 2


def test_a_flood_is_cut_off(control_plane: ControlPlane, api: KubeApi, namespace: str) -> None:
    flood = tuple(Event("Warning", "PodFailed", f"number {number}") for number in range(2 * int(BURST)))
    tell(control_plane, namespace, flood)
    assert len(events(api, namespace)) == int(BURST)


def test_a_long_message_is_cut_to_what_the_server_takes(
    control_plane: ControlPlane, api: KubeApi, namespace: str
) -> None:
    tell(control_plane, namespace, (Event("Warning", "RankFailed", "x" * 5000),))
    (event,) = events(api, namespace)
    assert len(event["message"]) == 1024
