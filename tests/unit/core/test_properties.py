"""Whatever happens, in whatever order, and whoever dies in between: the job comes to its end, truthfully."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from rowlock.api.v1alpha1 import JobSpec
from tests.unit.core.simulation import World

WORKERS = 3
worker = st.integers(0, WORKERS - 1)

STEPS = st.one_of(
    st.tuples(st.just("reconcile"), st.integers(0, 6)),
    st.tuples(st.just("reconcile"), st.just(99)),
    st.tuples(st.just("start"), worker),
    st.tuples(st.just("obey"), worker),
    st.tuples(st.just("train"), st.just(0)),
    st.tuples(st.just("bind"), st.just(0)),
    st.tuples(st.just("finish_deletion"), worker),
    st.tuples(st.just("kill"), worker),
    st.tuples(st.just("evict"), worker),
    st.tuples(st.just("vanish"), worker),
    st.tuples(st.just("rank"), worker),
    st.tuples(st.just("cut"), worker),
    st.tuples(st.just("mend"), st.just(0)),
    st.tuples(st.just("suspend"), st.just(0)),
    st.tuples(st.just("resume"), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.just("a good while"), st.integers(1, 4)),
)


def new_world(**recovery: int) -> World:
    return World(
        JobSpec.model_validate(
            {
                "workers": WORKERS,
                "command": ["train"],
                "recovery": {"maxFailures": 1000, "backoff": {"initialSeconds": 1, "maxSeconds": 5}, **recovery},
            }
        )
    )


def obey(world: World, index: int) -> None:
    for uid in [one.uid for one in world.processes.values() if one.worker == index]:
        world.obey(uid)


def suspend(world: World, wanted: bool) -> None:
    world.spec = world.spec.model_copy(update={"suspend": wanted})


MOVES: dict[str, Callable[[World, int], object]] = {
    "reconcile": lambda world, value: world.reconcile(crash_after=value),
    "start": lambda world, value: world.start_pod(value),
    "obey": obey,
    "train": lambda world, _: world.train(),
    "bind": lambda world, _: world.bind_claim(),
    "finish_deletion": lambda world, value: world.finish_deletion(value),
    "kill": lambda world, value: world.kill_pod(value),
    "evict": lambda world, value: world.kill_pod(value, reason="Evicted", exit_code=None),
    "vanish": lambda world, value: world.vanish_pod(value),
    "rank": lambda world, value: world.kill_rank(value),
    "cut": lambda world, value: world.cut(value),
    "mend": lambda world, _: world.mend(),
    "suspend": lambda world, _: suspend(world, True),
    "resume": lambda world, _: suspend(world, False),
    "wait": lambda world, value: world.wait(value),
    "a good while": lambda world, value: world.settle_down(rounds=value),
}


def play(world: World, step: str, value: int) -> None:
    MOVES[step](world, value)


def check_always(world: World) -> None:
    """What must hold at every moment."""
    for (generation, index), uids in world.ran.items():
        assert len(uids) == 1, f"worker {index} ran twice in generation {generation}: {uids}"
    status = world.status
    counted = status.failures.count + status.preemptions.count
    assert status.restarts <= counted <= world.faults + silent_launchers(world)
    assert status.failures.count >= 0
    generations = [one.generation for one in world.history]
    assert generations == sorted(generations), "a generation never goes back"
    steps = [one.progress.step for one in world.history if one.progress is not None]
    assert steps == sorted(steps), "nothing saved is ever lost in this world"


def silent_launchers(world: World) -> int:
    """A cut connection that outlasts its lease is a fault too, though no one injected it by name."""
    return world.cuts


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=60))
def test_any_history_ends_in_success_once_the_faults_stop(steps: list[tuple[str, int]]) -> None:
    world = new_world()
    had_claim = False
    for step, value in steps:
        play(world, step, value)
        check_always(world)
        had_claim = had_claim or world.claim is not None
        assert not had_claim or world.claim is not None, "the claim was lost"
    world.spec = world.spec.model_copy(update={"suspend": False})
    world.settle_down()
    check_always(world)
    event(f"faults {min(world.faults, 5)}")
    assert world.status.phase == "Succeeded", world.status
    assert world.saved_step == 40
    assert world.reconcile().actions == ()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=40))
def test_a_settled_world_needs_nothing_more(steps: list[tuple[str, int]]) -> None:
    world = new_world()
    for step, value in steps:
        play(world, step, value)
    world.settle_down()
    before = world.version
    decision = world.reconcile()
    assert decision.actions == ()
    assert world.version == before, "a settled status is not written again"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=60), budget=st.integers(0, 2))
def test_a_budget_is_kept_to_the_letter(steps: list[tuple[str, int]], budget: int) -> None:
    world = new_world(maxFailures=budget, maxPreemptions=budget)
    for step, value in steps:
        play(world, step, value)
        check_always(world)
        status = world.status
        spent = status.failures.count > budget or status.preemptions.count > budget
        assert status.failures.count <= budget + 1
        assert status.preemptions.count <= budget + 1
        assert not spent or status.phase == "Failed"
        assert status.phase != "Failed" or spent


@settings(max_examples=100, deadline=None)
@given(crash_points=st.lists(st.integers(0, 8), max_size=30), victim=worker)
def test_one_fault_is_counted_once_however_often_the_operator_dies(crash_points: list[int], victim: int) -> None:
    world = new_world()
    world.settle_down(rounds=4)
    assert world.status.phase == "Running"
    world.kill_pod(victim)
    for point in crash_points:
        world.reconcile(crash_after=point)
        world.start_pod(victim)
    world.settle_down()
    assert (world.status.failures.count, world.status.preemptions.count) == (1, 0)
    assert world.status.generation == 2
