"""Who is told what: the order is complete, true of its generation, and never of another."""

from __future__ import annotations

from rowlock_operator.core.decide import decide
from tests.unit.core.build import NOW, after, job, later, launcher, pod, training_job, world

PODS = (pod(0), pod(1))


def test_a_launcher_that_is_not_heard_is_not_ready() -> None:
    begun = after(job(), decide(job(), world(*PODS), NOW))
    deaf = launcher(1, "ready", connected=False)
    decision = decide(begun, world(*PODS, launchers=(launcher(0, "ready"), deaf)), later(1))
    assert decision.status.workers_ready == "1/2"
    assert decision.order is not None
    assert decision.order.store == ""


def test_the_store_of_an_older_generation_is_never_handed_out() -> None:
    before = training_job()
    before.status.generation = 2
    old = launcher(0, "running", 1, store="crew-worker-0:1")
    for others in ("ready", "running"):
        crew = (old, launcher(1, others, 2))
        decision = decide(before, world(*PODS, launchers=crew), NOW)
        assert decision.order is not None
        assert (decision.order.generation, decision.order.store) == (2, "")


def test_a_lost_worker_has_no_place_in_the_order() -> None:
    dead = pod(1, phase="Failed", exit_code=1)
    decision = decide(training_job(), world(pod(0), dead, launchers=(launcher(0),)), NOW)
    assert decision.order is not None
    assert decision.order.members == ("pod-0", "")
    assert decision.order.store == ""
