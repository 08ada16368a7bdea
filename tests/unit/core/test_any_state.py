"""From any state that can be read back, however it came about, decide() does nothing foolish.

No history leads to these worlds: pods, reports and status are drawn by themselves, as after a restored backup, a
hand that edited a status, or an operator of another release.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rowlock.api.v1alpha1 import JobStatus
from rowlock.protocol import Report
from rowlock_operator.core.decide import decide
from rowlock_operator.core.draft import to_text
from rowlock_operator.core.model import Claim, CreatePod, DeletePod, Job, Launcher, Observed, Pod
from rowlock_operator.core.shape import spec_hash
from tests.unit.core.build import NOW, after, end, job, later, spec

MOMENTS = st.sampled_from([-7200, -100, -61, -31, -16, -6, -1, 0])
PAST = MOMENTS.map(later)
INDEX = st.integers(0, 4)


def uids(worker: int) -> st.SearchStrategy[str]:
    return st.sampled_from([f"a{worker}", f"b{worker}"])


@st.composite
def statuses(draw: st.DrawFn) -> JobStatus:
    generation = draw(st.integers(0, 3))
    text = PAST.map(to_text)
    members = [
        {
            "index": index,
            "podUid": draw(st.one_of(st.just(""), uids(index))),
            "phase": draw(st.sampled_from(["Absent", "Pending", "Running", "Running", "Lost", "Done"])),
            "joined": draw(st.integers(0, generation)),
        }
        for index in range(draw(st.integers(0, 4)))
    ]
    unsettled = [
        {
            "time": draw(text),
            "generation": draw(st.integers(0, generation)),
            "worker": (worker := draw(INDEX)),
            "reason": "WorkerLost",
            "message": "guessed",
            "podUid": draw(uids(worker)),
            "removing": draw(st.booleans()),
        }
        for _ in range(draw(st.integers(0, 2)))
    ]
    saving = {"type": "Saving", "status": "True", "reason": "Resizing", "lastTransitionTime": draw(text)}
    return JobStatus.model_validate(
        {
            "phase": draw(
                st.sampled_from(["Pending", "Starting", "Running", "Recovering", "Suspending", "Suspended", "Failed"])
            ),
            "generation": generation,
            "workers": {"wanted": draw(st.sampled_from([len(members), len(members), 3])), "members": members},
            "failures": {"count": draw(st.integers(len(unsettled), 4))},
            "preemptions": {"count": draw(st.integers(0, 4))},
            "unsettled": unsettled,
            "conditions": [saving] if draw(st.booleans()) else [],
            "notBefore": draw(st.one_of(st.none(), text)),
            "startTime": draw(st.one_of(st.none(), text, text)),
            "specHash": draw(st.sampled_from(["", "", "another"])),
            "failuresWithoutProgress": draw(st.integers(0, 3)),
        }
    )


@st.composite
def pods(draw: st.DrawFn, worker: int) -> Pod:
    phase = draw(st.sampled_from(["Pending", "Running", "Running", "Running", "Succeeded", "Failed", "Unknown"]))
    ended = phase in ("Succeeded", "Failed")
    return Pod(
        worker,
        draw(uids(worker)),
        phase,
        deleting_since=draw(st.one_of(st.none(), st.none(), PAST)),
        exit_code=draw(st.sampled_from([None, 0, 1, 75, 76, 78, 137])) if ended else None,
        reason=draw(st.sampled_from(["", "Error", "Evicted"])) if ended else "",
        running_since=draw(PAST) if phase == "Running" else None,
        lingering=ended and draw(st.booleans()),
        spec_hash=draw(st.sampled_from(["", "", "another"])),
    )


@st.composite
def launchers(draw: st.DrawFn, worker: int, uid: str, generation: int) -> Launcher:
    phase = draw(st.sampled_from(["idle", "starting", "ready", "running", "running", "done", "ended"]))
    code = draw(st.sampled_from([1, 75, 76, 78, 137]))
    report = Report(
        generation=draw(st.integers(0, generation)),
        phase=phase,
        store="somewhere:1" if worker == 0 else "",
        exits=(end(worker, code, time=draw(PAST).timestamp()),) if phase == "ended" else (),
        leaving=draw(st.integers(0, 9)) == 0,
    )
    connected = draw(st.booleans())
    return Launcher(
        worker,
        uid,
        connected,
        draw(PAST),
        report,
        stepped_at=draw(st.one_of(st.none(), PAST)),
        connected_since=draw(PAST) if connected else None,
    )


@st.composite
def states(draw: st.DrawFn) -> tuple[Job, Observed]:
    status = draw(statuses())
    what = {"command": ["train"]} if draw(st.booleans()) else {}
    wanted = draw(st.sampled_from([status.workers.wanted or 1, 1, 2, 4]))
    wanted = 4 if wanted == 3 and not what else wanted
    job_spec = spec(
        workers=wanted,
        suspend=draw(st.integers(0, 4)) == 0,
        recovery={"maxFailures": draw(st.sampled_from([0, 4, 10])), "maxPreemptions": draw(st.sampled_from([0, 10]))},
        **what,
    )
    if status.spec_hash == "" and draw(st.booleans()):
        status.spec_hash = spec_hash(job_spec)
    there = tuple(draw(pods(index)) for index in range(5) if draw(st.integers(0, 4)))
    known = tuple(
        draw(launchers(index, f"{which}{index}", status.generation))
        for index in range(5)
        for which in "ab"
        if draw(st.booleans())
    )
    claim = draw(st.sampled_from([Claim("crew-checkpoints", "Bound"), Claim("crew-checkpoints", "Lost"), None]))
    return job(job_spec, status), Observed(there, claim, True, True, known, draw(st.one_of(st.none(), PAST)))


def fixed(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def total(status: JobStatus) -> int:
    return status.failures.count + status.preemptions.count


@fixed(300)
@given(state=states())
def test_every_decision_is_sound(state: tuple[Job, Observed]) -> None:
    before, seen = state
    decision = decide(before, seen, NOW)

    # What it writes can be read back.
    written = decision.status.model_dump(mode="json", by_alias=True)
    assert JobStatus.model_validate(written) == decision.status

    # One round counts at most one fault, and takes none back.
    assert 0 <= total(decision.status) - total(before.status) <= 1
    assert decision.status.failures.count >= len(decision.status.unsettled)
    assert before.status.generation <= decision.status.generation <= before.status.generation + 1
    if before.status.phase == "Failed":
        assert decision.status.phase == "Failed"
        assert total(decision.status) == total(before.status)

    # One pod a place, and none where there is one.
    there = {pod.worker: pod for pod in seen.pods}
    created = [action.worker for action in decision.actions if isinstance(action, CreatePod)]
    assert len(created) == len(set(created))
    assert not set(created) & set(there)
    assert all(index < before.spec.workers for index in created)
    deleted = [action for action in decision.actions if isinstance(action, DeletePod)]
    assert len(deleted) == len({action.worker for action in deleted})
    assert all(there[action.worker].uid == action.uid for action in deleted)
    assert not created or not (before.spec.suspend or decision.status.phase in ("Failed", "Succeeded"))

    # Nobody who has a place is deleted, but when all are to go.
    assert decision.order is not None
    if not before.spec.suspend and decision.status.phase not in ("Failed", "Succeeded"):
        assert not {action.uid for action in deleted} & set(decision.order.members)
        assert decision.order.workers == before.spec.workers or decision.order.phase == "save"


@fixed(300)
@given(state=states())
def test_a_second_look_at_the_same_world_counts_nothing_and_soon_changes_nothing(state: tuple[Job, Observed]) -> None:
    current, seen = state
    first = decide(current, seen, NOW)
    current = after(current, first)
    for _ in range(3):
        again = decide(current, seen, NOW)
        settled = again.status == current.status
        current = after(current, again)
    assert settled, "three looks at a world that stands still are enough"
    last = decide(current, seen, NOW)
    assert (last.status, last.actions, last.order) == (again.status, again.actions, again.order)


@fixed(300)
@given(state=states(), index=st.integers(0, 3))
def test_whoever_trains_keeps_its_place_whatever_befalls_the_others(state: tuple[Job, Observed], index: int) -> None:
    drawn, seen = state
    if index >= drawn.spec.workers:
        index = 0
    status = drawn.status.model_copy(deep=True)
    # Nobody wishes for anything, and this worker is well.
    status.phase, status.start_time, status.conditions = "Running", to_text(NOW), []
    status.spec_hash = spec_hash(drawn.spec)
    status.workers.wanted = drawn.spec.workers
    kept = {member.index: member for member in status.workers.members}
    fresh = JobStatus.model_validate(
        {"workers": {"members": [{"index": i, "podUid": f"a{i}"} for i in range(drawn.spec.workers)]}}
    ).workers.members
    status.workers.members = [kept.get(member.index, member) for member in fresh]
    mine = status.workers.members[index]
    mine.pod_uid, mine.phase, mine.joined = f"a{index}", "Running", status.generation
    well = Pod(index, f"a{index}", "Running", running_since=later(-500))
    trains = Launcher(index, f"a{index}", True, NOW, Report(generation=status.generation, phase="running"))
    observed = replace(
        seen,
        pods=(*(one for one in seen.pods if one.worker != index), well),
        launchers=(*(one for one in seen.launchers if one.pod_uid != f"a{index}"), trains),
    )
    quiet = replace(drawn, spec=drawn.spec.model_copy(update={"suspend": False}), status=status)
    decision = decide(quiet, observed, NOW)
    assert decision.order is not None
    assert decision.order.members[index] == f"a{index}"
    if decision.status.phase != "Failed":
        assert all(not isinstance(one, DeletePod) or one.worker != index for one in decision.actions)
