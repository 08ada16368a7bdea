"""Whatever dies or misbehaves around a job, it ends in the same state, with every fault counted once.

The operator is killed at random moments, the API server restarts, forgets its history, refuses, answers
late or does as asked and hangs up. Random moments come from seeds; what is asserted holds for any moment.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.control_plane import CRD_PATH, ControlPlane
from tests.support.flaky_proxy import FlakyProxy, Moment
from tests.support.kube_api import wait_until
from tests.support.operator_process import OperatorProcess, free_ports, operator_kubeconfig
from tests.support.operator_world import DEADLINE_SECONDS, World, job_manifest, world

__all__ = ["world"]

#: Faults in each seeded run: enough to meet most orders of death and write, in a quarter of a minute.
ROUNDS = 4
#: Writes of one recovery: the count, the pod's deletion, the Event, the new pod, and the status of its way back.
WRITES = 5


@pytest.mark.parametrize("seed", [1, 2])
def test_an_operator_killed_at_any_moment_counts_each_fault_once(world: World, seed: int) -> None:
    chance = random.Random(seed)
    world.apply(job_manifest("survivor", workers=3, trainer=_trainer(3)))
    world.until_running("survivor", generation=1)
    failed = preempted = 0

    for round_ in range(ROUNDS):
        pod = world.pod("survivor", chance.randrange(3))
        if chance.random() < 0.5:
            world.kubelet.fail(pod, code=1)
            failed += 1
        else:
            world.kubelet.preempt(pod)
            preempted += 1
        _kill_soon(world, chance)
        world.operator.start()
        _kill_soon(world, chance)
        world.operator.start()
        world.until_running("survivor", generation=round_ + 2)

    status = world.status("survivor")
    assert (status["failures"]["count"], status["preemptions"]["count"]) == (failed, preempted)
    assert status["restarts"] == ROUNDS
    assert len(world.api.list(world.path("pods"))) == 3


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_operator_killed_around_any_of_its_writes_counts_each_fault_once(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, moment: Moment
) -> None:
    """Not by chance but one by one: the first write after a fault, the second, ... is the operator's last."""
    with FlakyProxy(control_plane, seed=0) as proxy:
        world = World(control_plane, namespace, tmp_path)
        kubeconfig = operator_kubeconfig(control_plane, tmp_path, server=proxy.url)
        world.operator = OperatorProcess(kubeconfig, tmp_path, namespace)
        world.operator.start()
        world.apply(job_manifest("stubborn", workers=3, trainer=_trainer(3)))
        world.until_running("stubborn", generation=1)

        for last_write in range(1, WRITES + 1):
            killed = _kill_at_write(world, proxy, last_write, moment)
            world.kubelet.fail(world.pod("stubborn", last_write % 3), code=1)
            world.until(killed.is_set, f"write {last_write} is made")
            proxy.around_write = None
            world.operator.start()
            status = world.until_running("stubborn", generation=last_write + 1)
            assert (status["failures"]["count"], status["preemptions"]["count"]) == (last_write, 0)

        assert len(world.api.list(world.path("pods"))) == 3
        world.close()


def test_training_goes_on_while_the_operator_is_away(world: World) -> None:
    world.apply(job_manifest("alone"))
    world.until_running("alone", generation=1)
    before = [launcher.report.generation for launcher in world.crew.of(world.namespace, "alone")]

    world.operator.kill()
    world.crew.step(world.namespace, "alone", 77)
    world.operator.start()

    world.until(lambda: world.status("alone").get("progress", {}).get("step") == 77, "the step shows")
    assert [launcher.report.generation for launcher in world.crew.of(world.namespace, "alone")] == before
    assert world.status("alone")["restarts"] == 0


def test_a_pod_lost_while_the_operator_is_away_is_found_and_counted(world: World) -> None:
    world.apply(job_manifest("absent"))
    world.until_running("absent", generation=1)

    world.operator.kill()
    world.kubelet.evaporate(world.pod("absent", 1))
    world.operator.start()

    status = world.until_running("absent", generation=2)
    assert (status["preemptions"]["count"], status["failures"]["count"]) == (1, 0)


def test_sigterm_stops_the_operator_cleanly_and_soon(world: World) -> None:
    world.apply(job_manifest("calm"))
    world.until_running("calm", generation=1)

    started = time.monotonic()
    assert world.operator.stop() == 0
    # Child.stop kills after 10 s: a clean exit code says that it went by itself, this how soon.
    assert time.monotonic() - started < 10

    world.operator.start()
    assert world.operator.probe("healthz") == world.operator.probe("readyz") == 200


@pytest.mark.parametrize("seed", [1, 2])
def test_an_api_server_that_fails_a_third_of_the_time_only_costs_time(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, seed: int
) -> None:
    with FlakyProxy(control_plane, seed) as proxy:
        made = World(control_plane, namespace, tmp_path)
        kubeconfig = operator_kubeconfig(control_plane, tmp_path, server=proxy.url)
        made.operator = OperatorProcess(kubeconfig, tmp_path, namespace)
        made.operator.start()
        proxy.share = 1 / 3
        made.apply(job_manifest("flaky", workers=3, trainer=_trainer(3)))
        made.until_running("flaky", generation=1)
        made.kubelet.fail(made.pod("flaky", 1), code=1)
        made.until_running("flaky", generation=2)
        made.kubelet.preempt(made.pod("flaky", 2))
        status = made.until_running("flaky", generation=3)
        proxy.share = 0.0

        assert (status["failures"]["count"], status["preemptions"]["count"]) == (1, 1)
        assert sum(proxy.struck.values()) > 0
        assert made.operator.probe("healthz") == 200
        assert made.operator.metric("rowlock_reconciles_total", result="defect") == 0
        made.close()


def test_a_conflict_that_keeps_a_pod_from_being_deleted_only_costs_time(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    with FlakyProxy(control_plane, seed=0) as proxy:
        made = World(control_plane, namespace, tmp_path)
        kubeconfig = operator_kubeconfig(control_plane, tmp_path, server=proxy.url)
        made.operator = OperatorProcess(kubeconfig, tmp_path, namespace)
        made.operator.start()
        made.apply(job_manifest("vetoed", workers=2, trainer=_trainer(2)))
        made.until_running("vetoed", generation=1)
        proxy.vetoes = 2
        made.kubelet.fail(made.pod("vetoed", 1), code=1)
        status = made.until_running("vetoed", generation=2)

        assert proxy.vetoes == 0
        assert (status["failures"]["count"], status["preemptions"]["count"]) == (1, 0)
        made.close()


def test_an_operator_without_its_api_server_says_so_and_waits(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    cluster = {"name": "gone", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "gone", "context": {"cluster": "gone", "user": "nobody"}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "gone",
        "clusters": [cluster],
        "contexts": [context],
        "users": [{"name": "nobody", "user": {"token": "none"}}],
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    operator = OperatorProcess(kubeconfig, tmp_path)

    operator.start(wait=False)
    wait_until(lambda: operator.probe("readyz") == 503, DEADLINE_SECONDS, "the operator answers")

    wait_until(lambda: "cannot list" in operator.log.read_text(), DEADLINE_SECONDS, "the trouble is told")
    assert operator.probe("healthz") == 200
    assert "Traceback" not in operator.log.read_text()
    assert operator.stop() == 0


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[World]:
    """A world whose control plane nobody else uses: it will be broken."""
    with ControlPlane.start([CRD_PATH]) as plane:
        plane.client().create("/api/v1/namespaces", {"metadata": {"name": "own"}}).ok()
        made = World(plane, "own", tmp_path)
        made.operator.start()
        yield made
        made.close()


def test_an_api_server_that_restarts_with_its_history_gone_misses_nothing(own_world: World) -> None:
    world = own_world
    world.apply(job_manifest("lasting"))
    world.until_running("lasting", generation=1)

    world.plane.restart_apiserver()
    world.kubelet.fail(world.pod("lasting", 0), code=1)
    assert world.until_running("lasting", generation=2)["failures"]["count"] == 1

    # The operator is held still while a pod vanishes and the server forgets that it ever did.
    world.operator.pause()
    world.kubelet.evaporate(world.pod("lasting", 1))
    world.plane.compact()
    world.plane.restart_apiserver()
    world.operator.resume()
    status = world.until_running("lasting", generation=3)

    assert "Restarting the watch-stream for pods" in world.operator.log.read_text(), "no watch was told 410 Gone"
    assert (status["failures"]["count"], status["preemptions"]["count"]) == (1, 1)
    assert world.operator.probe("healthz") == 200


def _kill_at_write(world: World, proxy: FlakyProxy, number: int, moment: Moment) -> threading.Event:
    """Kill the operator just before, or just after, its write of this number reaches the API server."""
    killed = threading.Event()

    def around(write: int, when: Moment) -> bool:
        if (write, when) == (number, moment):
            world.operator.kill()
            killed.set()
        return not killed.is_set()

    proxy.writes = 0
    proxy.around_write = around
    return killed


def _kill_soon(world: World, chance: random.Random) -> None:
    """Let the operator live for a random moment. Nothing is waited for: the moment itself is the test."""
    time.sleep(chance.uniform(0.0, 0.4))
    world.operator.kill()


def _trainer(workers: int) -> dict[str, object]:
    return {"model": {"mlp": {}}, "data": "digits", "globalBatchSize": 24 * workers, "steps": 1000}
