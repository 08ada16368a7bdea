"""Two operators, one of which leads: real processes, a real API server, and ends of every kind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rowlock_operator.kube.deadline import LOST_EXIT_CODE
from rowlock_operator.kube.settings import LEASE_NAME
from tests.support.flaky_proxy import FlakyProxy
from tests.support.operator_process import OperatorProcess, operator_kubeconfig
from tests.support.operator_world import World, job_manifest
from tests.support.service_proxy import SERVICE, ServiceProxy

if TYPE_CHECKING:
    from tests.support.control_plane import ControlPlane

#: Addresses that pods could have. Nobody has them here.
POD_IPS = ("10.7.0.1", "10.7.0.2")
#: Shorter than in a cluster, for the sake of whoever waits for these tests.
LEASE_SECONDS = 6


class Pair:
    """Two operators in front of one world."""

    def __init__(self, world: World, service: ServiceProxy, operators: list[OperatorProcess]) -> None:
        self.world = world
        self.service = service
        self.operators = operators

    def start(self) -> None:
        for operator in self.operators:
            operator.start(wait=False)
        self.world.until(lambda: self.roles() == ["leading", "standby"], "one leads and one stands by")
        self.show_log_of(self.leader)

    def roles(self) -> list[str]:
        return sorted(operator.role() for operator in self.operators)

    @property
    def leader(self) -> OperatorProcess:
        return next(operator for operator in self.operators if operator.role() == "leading")

    def other(self, than: OperatorProcess) -> OperatorProcess:
        return next(operator for operator in self.operators if operator is not than)

    def ip(self, operator: OperatorProcess) -> str:
        return POD_IPS[self.operators.index(operator)]

    def until_leads(self, operator: OperatorProcess) -> None:
        self.show_log_of(operator)
        self.world.until(lambda: operator.role() == "leading", "the other one leads")
        self.world.until(lambda: self.service.addresses() == [self.ip(operator)], "launchers find it")

    def show_log_of(self, operator: OperatorProcess) -> None:
        """Its log is what a failed wait shows, and it is the one that is stopped at the end."""
        self.world.operator = operator

    def lease(self) -> dict[str, Any]:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.world.namespace}/leases/{LEASE_NAME}"
        spec: dict[str, Any] = self.world.api.get(path).ok()["spec"]
        return spec

    def until_reconnected(self, job: str) -> None:
        """Wait until the launchers of a job have an order from the leader of now."""

        def ordered() -> bool:
            launchers = self.world.crew.of(self.world.namespace, job)
            return all(one.connected and one.orders_by_line[-1] for one in launchers)

        self.world.until(ordered, f"the launchers of {job} are back")


@contextmanager
def a_pair(
    plane: ControlPlane, namespace: str, folder: Path, servers: tuple[str, str] = ("", ""), lease: int = LEASE_SECONDS
) -> Iterator[Pair]:
    """Two operators that have not been started yet; `servers` replace the API server's URL for them."""
    world = World(plane, namespace, folder)
    service = ServiceProxy(world.api, namespace)
    operators = []
    for number, server in enumerate(servers):
        own = folder / str(number)
        own.mkdir()
        kubeconfig = operator_kubeconfig(plane, own, server, leads_in=namespace)
        flags = (
            "--leader-elect",
            f"--leader-elect-namespace={namespace}",
            f"--leader-elect-lease-seconds={lease}",
            f"--pod-ip={POD_IPS[number]}",
            f"--coordinator-url={service.url}",
        )
        operators.append(OperatorProcess(kubeconfig, own, namespace, *flags))
    pair = Pair(world, service, operators)
    try:
        yield pair
        world.close()
    finally:
        for operator in operators:
            if operator.running:
                operator.kill()
        service.close()


@pytest.fixture
def pair(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Pair]:
    with a_pair(control_plane, namespace, tmp_path) as made:
        made.service.create_service()
        made.start()
        yield made


@contextmanager
def a_pair_behind_proxies(plane: ControlPlane, namespace: str, folder: Path) -> Iterator[tuple[Pair, FlakyProxy]]:
    """Two operators, each on a line of its own to the API server, and the line of the one that leads."""
    with (
        FlakyProxy(plane, seed=0) as first,
        FlakyProxy(plane, seed=0) as second,
        a_pair(plane, namespace, folder, servers=(first.url, second.url)) as pair,
    ):
        pair.service.create_service()
        pair.start()
        yield pair, (first, second)[pair.operators.index(pair.leader)]


def writes(operator: OperatorProcess) -> float:
    """Writes the operator ever tried, its lease aside."""
    verbs = ("create", "update", "patch", "delete")
    return sum(
        value
        for (name, labels), value in operator.metrics().items()
        if name == "rowlock_api_requests_total"
        and dict(labels)["verb"] in verbs
        and dict(labels)["resource"] != "leases"
    )


def listens(operator: OperatorProcess) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", operator.coordinator_port)) == 0


def test_of_two_operators_one_decides_and_the_other_is_ready_and_writes_nothing(pair: Pair) -> None:
    leader, standby = pair.leader, pair.other(pair.leader)
    pair.world.apply(job_manifest("led"))
    pair.world.until_running("led", generation=1)

    assert (leader.metric("rowlock_leader"), standby.metric("rowlock_leader")) == (1, 0)
    assert (leader.probe("readyz"), standby.probe("readyz")) == (200, 200)
    assert (leader.probe("healthz"), standby.probe("healthz")) == (200, 200)
    assert (listens(leader), listens(standby)) == (True, False)
    pair.world.until(lambda: standby.metric("rowlock_jobs", phase="Running") == 1, "the standby sees what happens")
    assert writes(leader) > 0
    assert writes(standby) == 0


def test_the_endpoint_slice_leads_to_the_leader_and_belongs_to_the_service(pair: Pair) -> None:
    pair.world.until(lambda: pair.service.addresses() == [pair.ip(pair.leader)], "the slice names the leader")
    made = pair.service.slice()
    service = pair.world.get("services", SERVICE)
    assert made["metadata"]["labels"]["kubernetes.io/service-name"] == SERVICE
    assert made["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "rowlock-operator"
    assert made["metadata"]["ownerReferences"][0]["uid"] == service["metadata"]["uid"]
    assert made["addressType"] == "IPv4"
    assert made["endpoints"][0]["conditions"]["ready"] is True
    assert made["ports"] == [{"name": "coordinator", "port": pair.leader.coordinator_port, "protocol": "TCP"}]


def test_when_the_leader_is_killed_the_other_leads_and_training_is_not_disturbed(pair: Pair) -> None:
    world, leader = pair.world, pair.leader
    world.apply(job_manifest("kept"))
    world.until_running("kept", generation=1)
    uids = {pod["metadata"]["uid"] for pod in world.api.list(world.path("pods"))}

    leader.kill()
    pair.until_leads(pair.other(leader))
    pair.until_reconnected("kept")

    world.crew.step(world.namespace, "kept", 77)
    world.until(lambda: world.status("kept").get("progress", {}).get("step") == 77, "the new leader hears the crew")
    status = world.status("kept")
    assert (status["generation"], status["failures"]["count"], status["restarts"]) == (1, 0, 0)
    assert {pod["metadata"]["uid"] for pod in world.api.list(world.path("pods"))} == uids

    # The dead one comes back and stands by, and a fault is counted once.
    leader.start()
    assert leader.role() == "standby"
    world.kubelet.fail(world.pod("kept", 1), code=1)
    assert world.until_running("kept", generation=2)["failures"]["count"] == 1
    assert pair.lease()["leaseTransitions"] == 1


def test_a_leader_that_is_told_to_stop_gives_the_lease_back(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    # The lease outlives every wait of this test: only one that was given back can be taken.
    with a_pair(control_plane, namespace, tmp_path, lease=100) as pair:
        pair.service.create_service()
        pair.start()
        leader = pair.leader
        pair.world.apply(job_manifest("calm"))
        pair.world.until_running("calm", generation=1)

        assert leader.stop() == 0
        pair.until_leads(pair.other(leader))
        pair.until_reconnected("calm")
        assert pair.world.status("calm")["failures"]["count"] == 0


def test_a_leader_that_was_stopped_past_its_time_ends_without_a_write_or_an_order(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    with a_pair_behind_proxies(control_plane, namespace, tmp_path) as (pair, proxy):
        world, leader = pair.world, pair.leader
        world.apply(job_manifest("frozen"))
        world.until_running("frozen", generation=1)
        launchers = world.crew.of(world.namespace, "frozen")

        leader.pause()
        # It is told of a fault, by its launchers and by its watch, while it cannot act on it.
        world.crew.rank_fails(launchers[0])
        pair.until_leads(pair.other(leader))
        proxy.around_write = lambda *_: True  # counts from here on
        heard = [len(one.orders_by_line[-1]) for one in launchers]
        old_lines = [one.orders_by_line[-1] for one in launchers]
        leader.resume()

        assert leader.wait_ended() == LOST_EXIT_CODE
        assert proxy.writes == 0
        assert [len(line) for line in old_lines] == heard
        assert "no longer the leader" in leader.log.read_text()
        # Its launchers' connections broke with it, and the new leader counts the fault, once.
        assert world.until_running("frozen", generation=2)["failures"]["count"] == 1


def test_a_leader_without_its_api_server_ends_and_the_other_takes_over(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    with a_pair_behind_proxies(control_plane, namespace, tmp_path) as (pair, proxy):
        world, leader = pair.world, pair.leader
        world.apply(job_manifest("cut"))
        world.until_running("cut", generation=1)

        proxy.away = True
        assert leader.wait_ended() == LOST_EXIT_CODE
        pair.until_leads(pair.other(leader))
        pair.until_reconnected("cut")
        assert world.status("cut")["failures"]["count"] == 0


def test_a_new_leader_whose_watch_fell_behind_counts_no_pod_as_lost_that_its_predecessor_made(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    with (
        FlakyProxy(control_plane, seed=0) as proxy,
        a_pair(control_plane, namespace, tmp_path, servers=("", proxy.url)) as pair,
    ):
        pair.service.create_service()
        world, (leader, successor) = pair.world, pair.operators
        leader.start(wait=False)
        world.until(lambda: leader.role() == "leading", "the first one leads")
        world.apply(job_manifest("behind"))
        world.until_running("behind", generation=1)
        # It sees the job change and hears nothing of pods: what its predecessor makes, it does not know.
        proxy.mute = "pods"
        successor.start()
        # A watch's beginning asks for a second list; after that nothing tells it of pods for minutes.
        world.until(lambda: successor.metric("rowlock_resyncs_total", result="ok") >= 2, "it has listed twice")
        world.kubelet.fail(world.pod("behind", 1), code=1)
        world.until_running("behind", generation=2)

        leader.kill()
        pair.until_leads(successor)
        pair.until_reconnected("behind")
        world.crew.step(world.namespace, "behind", 77)
        world.until(lambda: world.status("behind").get("progress", {}).get("step") == 77, "it hears the crew")
        status = world.status("behind")
        assert (status["generation"], status["failures"]["count"], status["preemptions"]["count"]) == (2, 1, 0)


def test_a_leader_that_launchers_cannot_find_says_so_and_decides_all_the_same(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    with a_pair(control_plane, namespace, tmp_path) as pair:
        pair.start()
        world = pair.world
        world.apply(job_manifest("lonely"))
        world.until(lambda: len(world.api.list(world.path("pods"))) == 2, "its pods are made")
        world.until(lambda: "launchers cannot find this leader" in pair.leader.log.read_text(), "the trouble is told")

        pair.service.create_service()
        world.until_running("lonely", generation=1)
