"""Whatever happens, in whatever order, and whoever dies in between: the job comes to its end, truthfully.

Derandomized, so that a run in CI says the same twice; a failing example is printed with a blob to replay it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from rowlock.api.v1alpha1 import JobSpec
from tests.unit.core.simulation import TOTAL_STEPS, World

WORKERS = 3
worker = st.integers(0, WORKERS)
nothing = st.just(0)


def fixed(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )


def obey(world: World, index: int) -> None:
    for uid in [one.uid for one in world.processes.values() if one.worker == index]:
        world.obey(uid)


def change_image(world: World, version: int) -> None:
    if world.spec.suspend:  # the API server allows it only then
        world.change(image=f"trainer:{version}")


Move = Callable[[World, int], object]

#: What everybody does who means well, and how the news of it travels.
ORDINARY: dict[str, tuple[st.SearchStrategy[int], Move]] = {
    "reconcile": (st.sampled_from([99, 99, 99, 0, 1, 2, 3]), lambda world, value: world.reconcile(crash_after=value)),
    "restart the operator": (nothing, lambda world, _: world.restart_operator()),
    "hear of the job": (nothing, lambda world, _: world.operator.hear_job()),
    "hear of a pod": (worker, lambda world, value: world.operator.hear_pod(value)),
    "hear of launchers": (worker, lambda world, value: world.operator.hear_launchers(value)),
    "hear all": (nothing, lambda world, _: world.operator.hear_all()),
    "start": (worker, lambda world, value: world.start_pod(value)),
    "obey": (worker, obey),
    "train": (nothing, lambda world, _: world.train()),
    "bind": (nothing, lambda world, _: world.bind_claim()),
    "finish deletion": (worker, lambda world, value: world.finish_deletion(value)),
    "wait": (st.sampled_from([1, 3, 6, 16, 40]), lambda world, value: world.wait(value)),
    "a good while": (st.integers(1, 6), lambda world, value: world.settle_down(rounds=value)),
}
WISHES: dict[str, tuple[st.SearchStrategy[int], Move]] = {
    "suspend": (nothing, lambda world, _: world.change(suspend=True)),
    "resume": (nothing, lambda world, _: world.change(suspend=False)),
    "resize": (st.integers(1, WORKERS + 1), lambda world, value: world.change(workers=value)),
    "another image": (st.integers(1, 2), change_image),
}
FAULTS: dict[str, tuple[st.SearchStrategy[int], Move]] = {
    "kill": (worker, lambda world, value: world.kill_pod(value)),
    "evict": (worker, lambda world, value: world.kill_pod(value, reason="Evicted", exit_code=None)),
    "vanish": (worker, lambda world, value: world.vanish_pod(value)),
    "rank": (worker, lambda world, value: world.kill_rank(value)),
    "drain": (worker, lambda world, value: world.drain(value)),
    "lose the node": (worker, lambda world, value: world.lose_node(value)),
    "cut": (worker, lambda world, value: world.cut(value)),
    "mend": (nothing, lambda world, _: world.mend()),
    "delete the policy": (nothing, lambda world, _: setattr(world, "policy", False)),
}
MOVES = {**ORDINARY, **WISHES, **FAULTS}


def moves(known: dict[str, tuple[st.SearchStrategy[int], Move]]) -> st.SearchStrategy[tuple[str, int]]:
    return st.one_of([st.tuples(st.just(name), values) for name, (values, _) in known.items()])


def histories(size: int, *kinds: dict[str, tuple[st.SearchStrategy[int], Move]]) -> st.SearchStrategy[list]:
    return st.lists(st.one_of([moves(kind) for kind in kinds]), max_size=size)


def play(world: World, step: str, value: int) -> None:
    MOVES[step][1](world, value)


def new_world(*, beside: bool = False, command: bool = True, isolates: bool = False, **fields) -> World:
    recovery = {"maxFailures": 1000, "backoff": {"initialSeconds": 1, "maxSeconds": 5}, **fields.pop("recovery", {})}
    trainer = {"model": {"mlp": {}}, "data": "digits", "steps": TOTAL_STEPS, "globalBatchSize": 12}
    what = {"command": ["train"]} if command else {"trainer": trainer}
    spec = JobSpec.model_validate({"workers": WORKERS, "recovery": recovery, **what, **fields})
    return World(spec, beside=beside, isolates=isolates)


def counted(world: World) -> int:
    return world.status.failures.count + world.status.preemptions.count


def check_always(world: World) -> None:
    """What must hold at every moment."""
    for (generation, index), uids in world.ran.items():
        assert len(uids) == 1, f"worker {index} ran twice in generation {generation}: {uids}"
    for generation, specs in world.ran_specs.items():
        assert len(specs) == 1, f"generation {generation} ran pods of several specs: {specs}"
    status = world.status
    # A connection that stays cut past its lease is a fault too.
    assert status.restarts <= counted(world) <= world.faults + world.cuts
    assert status.failures.count >= len(status.unsettled)
    generations = [one.generation for one in world.history]
    assert generations == sorted(generations), "a generation never goes back"
    steps = [one.progress.step for one in world.history if one.progress is not None]
    assert steps == sorted(steps), "nothing saved is ever lost in this world"


def check_success(world: World) -> None:
    """What must hold once everybody meant well for long enough."""
    world.change(suspend=False)
    world.settle_down()
    check_always(world)
    assert world.status.phase == "Succeeded", world.status
    assert world.saved_step == TOTAL_STEPS
    assert world.status.unsettled == []
    assert all(pod.terminal and not pod.lingering for pod in world.pods.values())
    version = world.version
    assert world.reconcile().actions == ()
    assert world.version == version, "a settled status is not written again"


@fixed(300)
@given(
    steps=histories(60, ORDINARY, ORDINARY, WISHES, FAULTS),
    beside=st.booleans(),
    command=st.booleans(),
    isolates=st.booleans(),
)
def test_any_history_ends_in_success_once_the_faults_stop(steps, beside: bool, command: bool, isolates: bool) -> None:
    world = new_world(beside=beside, command=command, isolates=isolates)
    had_claim = False
    for step, value in steps:
        play(world, step, value)
        check_always(world)
        had_claim = had_claim or world.claim is not None
        assert not had_claim or world.claim is not None, "the claim was lost"
    event(f"faults {min(world.faults, 5)}")
    check_success(world)


@fixed(150)
@given(steps=histories(60, ORDINARY, WISHES))
def test_what_people_wish_for_is_never_counted_however_late_the_news_and_whoever_dies(steps) -> None:
    world = new_world()
    for step, value in steps:
        play(world, step, value)
        assert counted(world) == 0, world.status
    check_success(world)
    assert world.status.restarts == 0


@fixed(150)
@given(steps=histories(60, ORDINARY, ORDINARY, WISHES, FAULTS), budget=st.integers(0, 2), command=st.booleans())
def test_a_budget_is_kept_to_the_letter(steps, budget: int, command: bool) -> None:
    world = new_world(command=command, recovery={"maxFailures": budget, "maxPreemptions": budget})
    for step, value in steps:
        play(world, step, value)
        check_always(world)
        status = world.status
        spent = status.failures.count > budget or status.preemptions.count > budget
        assert status.failures.count <= budget + 1
        assert status.preemptions.count <= budget + 1
        assert not spent or status.phase == "Failed"
        assert status.phase != "Failed" or spent
        assert status.phase != "Failed" or status.unsettled == []


LATE: dict[str, tuple[st.SearchStrategy[int], Move]] = {
    name: move for name, move in ORDINARY.items() if name not in ("wait", "a good while")
}
ONE_FAULT = ["kill", "evict", "vanish", "rank", "drain", "lose the node"]


@pytest.mark.parametrize("fault", ONE_FAULT)
@fixed(60)
@given(
    steps=histories(40, LATE, {"wait": (st.sampled_from([1, 3, 6]), ORDINARY["wait"][1])}),
    victim=st.integers(0, 2),
    command=st.booleans(),
)
def test_one_fault_is_counted_once_however_its_news_travels(fault: str, steps, victim: int, command: bool) -> None:
    world = new_world(command=command)
    world.settle_down(rounds=4)
    assert world.status.phase == "Running"
    play(world, fault, victim)
    assert world.faults == 1
    for step, value in steps:
        play(world, step, value)
        check_always(world)
    world.operator.hear_all()
    if world.status.phase != "Succeeded" and counted(world) == 0:
        world.settle_down(rounds=30)
    check_success(world)
    assert counted(world) == 1
    assert world.status.restarts == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("kill", "failure"),
        ("evict", "preemption"),
        ("vanish", "preemption"),
        ("rank", "failure"),
        ("drain", "preemption"),
        ("lose the node", "preemption"),
    ],
)
@fixed(25)
@given(steps=histories(30, LATE), victim=st.integers(0, 2), command=st.booleans())
def test_news_that_is_late_but_in_time_is_counted_by_its_true_kind(fault, kind, steps, victim, command) -> None:
    world = new_world(command=command)
    world.settle_down(rounds=4)
    play(world, fault, victim)
    for step, value in steps:  # no time passes: whatever was counted meanwhile is not settled yet
        play(world, step, value)
    check_success(world)
    assert counted(world) == 1
    assert (world.status.failures.count == 1) is (kind == "failure")


@fixed(100)
@given(steps=histories(50, ORDINARY, ORDINARY, FAULTS), beside=st.booleans())
def test_a_job_past_its_deadline_ends_and_leaves_no_pod_behind(steps, beside: bool) -> None:
    world = new_world(beside=beside, activeDeadlineSeconds=20)
    for step, value in steps:
        play(world, step, value)
        check_always(world)
    world.settle_down()
    assert world.status.phase in ("Succeeded", "Failed")
    assert all(pod.terminal and not pod.lingering for pod in world.pods.values())
    if world.status.phase == "Failed":
        ends = [(order, alive) for order, phase, alive in world.orders if phase == "Failed"]
        assert all(order == ("save" if alive else "leave") for order, alive in ends)
        assert len({(s.failures.count, s.preemptions.count) for s in world.history if s.phase == "Failed"}) == 1
