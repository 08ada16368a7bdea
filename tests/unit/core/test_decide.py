"""What decide() does about each thing that can be observed: one row or test a branch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rowlock.protocol import ExitCode
from rowlock_operator.core.decide import decide
from rowlock_operator.core.model import (
    Claim,
    CreateClaim,
    CreateNetworkPolicy,
    CreatePod,
    CreateSecret,
    CreateService,
    DeletePod,
    Observed,
    Refusal,
)
from tests.unit.core.build import (
    NOW,
    after,
    condition,
    counts,
    end,
    job,
    later,
    launcher,
    note,
    notice,
    phase_of,
    pod,
    progress,
    reasons,
    spec,
    training_job,
    world,
)


def test_a_new_job_gets_all_its_objects_in_the_order_they_need_each_other() -> None:
    decision = decide(job(), Observed(), NOW)

    assert decision.actions == (CreateClaim(), CreateService(), CreateSecret(), CreatePod(0), CreatePod(1))
    assert decision.status.generation == 1
    assert decision.status.phase == "Pending"
    assert decision.status.workers_ready == "0/2"
    assert decision.order is not None
    assert (decision.order.generation, decision.order.phase, decision.order.store) == (1, "run", "")


def test_a_job_that_is_to_be_isolated_gets_its_pods_only_when_it_is() -> None:
    before = decide(job(), Observed(isolated=False), NOW)
    assert before.actions == (CreateClaim(), CreateService(), CreateSecret(), CreateNetworkPolicy())

    decision = decide(after(job(), before), world(), NOW)
    assert decision.actions == (CreatePod(0), CreatePod(1))


def test_a_crew_whose_policy_went_trains_on_while_it_is_made_again() -> None:
    running = training_job()
    launchers = (launcher(0), launcher(1))
    decision = decide(running, world(pod(0), pod(1), launchers=launchers, isolated=False), NOW)
    assert decision.actions == (CreateNetworkPolicy(),)
    assert phase_of(decision) == "run"
    assert decision.status == running.status

    decision = decide(running, world(pod(0), launchers=launchers, isolated=False), NOW)
    assert CreateNetworkPolicy() in decision.actions
    assert CreatePod(1) not in decision.actions


def test_a_policy_that_is_refused_is_told_and_no_pod_is_made_without_it() -> None:
    refused = Refusal("CreateNetworkPolicy", "Forbidden", "networkpolicies is forbidden")
    decision = decide(job(), world(isolated=False, refusals=(refused,)), NOW)
    assert decision.actions == (CreateNetworkPolicy(),)
    assert condition(decision, "Degraded") == ("True", "CreateNetworkPolicyRefused")


def test_a_job_being_deleted_is_left_to_garbage_collection() -> None:
    running = replace(training_job(), deleting=True)
    decision = decide(running, world(), NOW)
    assert decision.actions == ()
    assert decision.status == running.status


def test_pods_are_adopted_by_uid_and_a_second_look_changes_nothing() -> None:
    seen = world(pod(0, phase="Pending"), pod(1))
    first = decide(job(), seen, NOW)
    assert [(m.pod_uid, m.phase) for m in first.status.workers.members] == [("pod-0", "Pending"), ("pod-1", "Running")]
    again = decide(after(job(), first), seen, NOW)
    assert again.status == first.status
    assert again.actions == ()


def test_the_store_is_given_only_when_every_worker_is_ready() -> None:
    begun = after(job(), decide(job(), world(pod(0), pod(1)), NOW))
    half = decide(begun, world(pod(0), pod(1), launchers=(launcher(0, "ready"), launcher(1, "starting"))), NOW)
    assert half.order is not None
    assert half.order.store == ""
    assert half.status.workers_ready == "1/2"
    whole = decide(begun, world(pod(0), pod(1), launchers=(launcher(0, "ready"), launcher(1, "ready"))), NOW)
    assert whole.order is not None
    assert whole.order.store == "crew-worker-0:4000"
    assert whole.order.members == ("pod-0", "pod-1")


def test_the_store_stays_given_while_anyone_trains_by_it() -> None:
    cut_off = launcher(1, connected=False, last_seen=NOW)
    decision = decide(training_job(), world(pod(0), pod(1), launchers=(launcher(0), cut_off)), NOW)
    assert decision.order is not None
    assert decision.order.store == "crew-worker-0:4000"


def test_a_launcher_of_an_older_pod_is_no_member() -> None:
    begun = after(job(), decide(job(), world(pod(0), pod(1)), NOW))
    zombie = launcher(1, "ready", uid="older-pod")
    decision = decide(begun, world(pod(0), pod(1), launchers=(launcher(0, "ready"), zombie)), NOW)
    assert decision.order is not None
    assert decision.order.store == ""
    assert decision.status.workers.ready == 1


def test_running_job_shows_progress_checkpoint_and_one_line() -> None:
    first = launcher(0, progress=progress(), checkpoint=note(), resumed_from=20)
    decision = decide(training_job(), world(pod(0), pod(1), launchers=(first, launcher(1))), NOW)
    status = decision.status
    assert status.progress is not None
    assert (status.progress.step, status.progress.percent, status.progress.loss) == (40, 40, "0.2500")
    assert status.last_checkpoint is not None
    assert status.last_checkpoint.step == 40
    assert status.resumed_from_step == 20
    assert status.workers_ready == "2/2"
    assert condition(decision, "Ready") == ("True", "CrewTraining")


def test_only_moved_numbers_make_a_minor_decision() -> None:
    before = training_job()
    first = launcher(0, progress=progress())
    decision = decide(before, world(pod(0), pod(1), launchers=(first, launcher(1))), NOW)
    assert decision.minor
    assert not decide(before, world(pod(1), launchers=(launcher(1),)), NOW).minor


def test_a_loss_that_is_no_number_is_shown_in_words() -> None:
    first = launcher(0, progress=progress(loss=float("nan"), seconds_left=float("inf")))
    decision = decide(training_job(), world(pod(0), pod(1), launchers=(first, launcher(1))), NOW)
    assert decision.status.progress is not None
    assert decision.status.progress.loss == "nan"
    assert decision.status.progress.seconds_left == 0


FAILED = {"phase": "Failed"}
INCIDENTS = [
    # (pods and launchers that differ from a healthy crew, kind, reason, exit code, worker, pod replaced)
    pytest.param(
        pod(1, **FAILED, exit_code=137, reason="OOMKilled"), None, "failure", "OOMKilled", 137, True, id="oom"
    ),
    pytest.param(pod(1, **FAILED, exit_code=1, reason="Error"), None, "failure", "Error", 1, True, id="error"),
    pytest.param(pod(1, **FAILED), None, "failure", "PodFailed", -1, True, id="failed-without-a-word"),
    pytest.param(pod(1, **FAILED, reason="Evicted"), None, "preemption", "Evicted", -1, True, id="evicted"),
    pytest.param(
        pod(1, **FAILED, exit_code=137, reason="Error", disrupted=True),
        None,
        "preemption",
        "Error",
        137,
        True,
        id="drained",
    ),
    pytest.param(pod(1, **FAILED, exit_code=75), None, "preemption", "Preempted", 75, True, id="saved-and-left"),
    pytest.param(
        pod(1, **FAILED, exit_code=143, deleting_since=NOW),
        None,
        "preemption",
        "Preempted",
        143,
        True,
        id="deleted-with-grace",
    ),
    pytest.param(None, None, "preemption", "PodDeleted", -1, True, id="vanished"),
    pytest.param(
        pod(1),
        launcher(1, "ended", exits=(end(1, 1, "ValueError: x"),)),
        "failure",
        "RankFailed",
        1,
        False,
        id="rank-error",
    ),
    pytest.param(
        pod(1), launcher(1, "ended", exits=(end(1, 139),)), "failure", "RankFailed", 139, False, id="rank-segfault"
    ),
    pytest.param(
        pod(1),
        launcher(1, "ended", exits=(end(1, 75),), leaving=True),
        "preemption",
        "Preempted",
        75,
        True,
        id="leaving",
    ),
    pytest.param(
        pod(1),
        launcher(1, "ended", exits=(end(1, 137),), leaving=True),
        "preemption",
        "Preempted",
        137,
        True,
        id="no-time",
    ),
]


@pytest.mark.parametrize(("seen_pod", "seen_launcher", "kind", "reason", "code", "replaced"), INCIDENTS)
def test_an_incident_is_counted_by_its_kind_and_begins_the_next_generation(
    seen_pod, seen_launcher, kind, reason, code, replaced
) -> None:
    before = training_job()
    pods = (pod(0), seen_pod) if seen_pod else (pod(0),)
    launchers = (launcher(0), seen_launcher) if seen_launcher else (launcher(0),)
    decision = decide(before, world(*pods, launchers=launchers), NOW)
    status = decision.status

    counted = status.failures if kind == "failure" else status.preemptions
    other = status.preemptions if kind == "failure" else status.failures
    assert (counted.count, other.count, status.restarts, status.generation) == (1, 0, 1, 2)
    assert counted.last is not None
    assert (counted.last.reason, counted.last.exit_code, counted.last.worker) == (reason, code, 1)
    assert "worker 1" in counted.last.message
    assert status.phase == "Recovering"
    assert condition(decision, "Ready")[0] == "False"
    assert reason in reasons(decision)
    assert decision.order is not None
    assert decision.order.members == ("pod-0", "" if replaced else "pod-1")

    # The same world again: counted already, so nothing more is counted.
    again = decide(after(before, decision), world(*pods, launchers=launchers), NOW)
    assert again.status.restarts == 1
    assert again.status.generation == 2


def test_one_generation_counts_one_incident_however_many_ranks_it_broke() -> None:
    launchers = (
        launcher(0, "ended", exits=(end(0, ExitCode.PEER_LOST, "connection reset", time=NOW.timestamp() - 1),)),
        launcher(1, "ended", exits=(end(1, 1, "ValueError: boom"),)),
    )
    decision = decide(training_job(), world(pod(0), pod(1), launchers=launchers), NOW)
    assert decision.status.failures.count == 1
    assert decision.status.failures.last is not None
    assert decision.status.failures.last.worker == 1
    assert "boom" in decision.status.failures.last.message


def test_a_dead_pod_is_deleted_and_its_place_filled_again() -> None:
    before = training_job()
    dead = pod(1, phase="Failed", exit_code=1)
    first = decide(before, world(pod(0), dead, launchers=(launcher(0),)), NOW)
    assert first.actions == (DeletePod(1, "pod-1", 0),)
    second = decide(after(before, first), world(pod(0), launchers=(launcher(0),)), NOW)
    assert second.actions == (CreatePod(1),)
    third = decide(after(before, second), world(pod(0), pod(1, "pod-1b", "Pending"), launchers=(launcher(0),)), NOW)
    assert third.actions == ()
    assert third.status.workers.members[1].pod_uid == "pod-1b"
    assert third.status.restarts == 1


def test_lost_peers_and_a_broken_connection_begin_the_next_generation_at_once_and_provisionally() -> None:
    before = training_job()
    lost_peer = launcher(0, "ended", exits=(end(0, ExitCode.PEER_LOST),))
    hung_up = launcher(1, connected=False)
    decision = decide(before, world(pod(0), pod(1), launchers=(lost_peer, hung_up)), NOW)
    assert decision.status.generation == 2
    # Counted at once, but not called the last failure before it is known to be one.
    assert counts(decision) == (1, 0)
    assert [(one.worker, one.pod_uid) for one in decision.status.unsettled] == [(1, "pod-1")]
    assert decision.status.failures.last is None
    # The pod has not said how it ended: it is not deleted yet, so that it still can.
    assert decision.actions == ()
    recovering = after(before, decision)

    failed = decide(recovering, world(pod(0), pod(1, phase="Failed", exit_code=137, reason="OOMKilled")), NOW)
    assert failed.status.failures.last is not None
    assert (failed.status.failures.last.reason, failed.status.failures.count) == ("OOMKilled", 1)
    assert failed.status.unsettled == []
    assert failed.actions == (DeletePod(1, "pod-1", 0),)

    evicted = decide(recovering, world(pod(0), pod(1, phase="Failed", reason="Evicted")), NOW)
    assert (evicted.status.failures.count, evicted.status.preemptions.count) == (0, 1)
    deleted = decide(recovering, world(pod(0)), NOW)
    assert (deleted.status.failures.count, deleted.status.preemptions.count) == (0, 1)
    going = decide(recovering, world(pod(0), pod(1, deleting_since=NOW)), NOW)
    assert (going.status.failures.count, going.status.preemptions.count) == (0, 1)

    mute = decide(recovering, world(pod(0), pod(1)), later(11))
    assert mute.status.failures.count == 1
    assert mute.actions == (DeletePod(1, "pod-1", None),)


def test_a_job_without_budget_is_not_failed_on_a_guess() -> None:
    before = training_job(spec(recovery={"maxFailures": 0}))
    lost_peer = launcher(0, "ended", exits=(end(0, ExitCode.PEER_LOST),))
    seen = world(pod(0), pod(1), launchers=(lost_peer, launcher(1, connected=False)))
    going_on = decide(before, seen, NOW)
    assert (going_on.status.generation, counts(going_on)) == (2, (1, 0))
    assert going_on.status.phase == "Recovering"
    evicted = world(pod(0), pod(1, phase="Failed", reason="Evicted"), launchers=seen.launchers)
    forgiven = decide(after(before, going_on), evicted, later(1))
    assert (counts(forgiven), forgiven.status.phase) == ((0, 1), "Recovering")
    # A node that is dead says nothing either, so silence alone is no proof.
    removing = decide(after(before, going_on), seen, later(11))
    assert removing.status.phase == "Recovering"
    assert removing.actions == (DeletePod(1, "pod-1", None),)
    gone = decide(after(before, removing), world(pod(0), launchers=seen.launchers), later(12))
    assert condition(gone, "Failed") == ("True", "TooManyFailures")


def test_lost_peers_alone_wait_for_the_cause_and_then_blame_the_network() -> None:
    before = training_job()
    lost = tuple(launcher(i, "ended", exits=(end(i, ExitCode.PEER_LOST),)) for i in range(2))
    waiting = decide(before, world(pod(0), pod(1), launchers=lost), NOW)
    assert waiting.status.generation == 1
    assert waiting.requeue_after == pytest.approx(5.0)
    # Both have kept up their heartbeats meanwhile.
    heard = tuple(replace(one, last_seen=later(5)) for one in lost)
    done = decide(before, world(pod(0), pod(1), launchers=heard), later(6))
    assert done.status.generation == 2
    assert done.status.failures.last is not None
    assert "network" in done.status.failures.last.message


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_a_workers_wrong_clock_never_makes_the_wait_longer(ahead: float) -> None:
    lost = tuple(
        launcher(i, "ended", exits=(end(i, ExitCode.PEER_LOST, time=NOW.timestamp() + ahead),)) for i in range(2)
    )
    decision = decide(training_job(), world(pod(0), pod(1), launchers=lost), NOW)
    assert decision.status.generation == 2 or (decision.requeue_after or 99) <= 5.0


def test_a_lost_pod_explains_the_exit_codes_of_a_users_command() -> None:
    before = training_job(spec(command=["python", "train.py"]))
    follower = launcher(0, "ended", exits=(end(0, 1, "connection closed by peer"),))
    evicted = pod(1, phase="Failed", reason="Evicted")
    decision = decide(before, world(pod(0), evicted, launchers=(follower,)), NOW)
    assert (decision.status.failures.count, decision.status.preemptions.count) == (0, 1)


def test_a_leaving_worker_explains_the_exit_codes_of_a_users_command() -> None:
    before = training_job(spec(command=["python", "train.py"]))
    follower = launcher(0, "ended", exits=(end(0, 1, "connection closed by peer"),))
    leaving = launcher(1, "ended", exits=(end(1, 143),), leaving=True)
    decision = decide(before, world(pod(0), pod(1), launchers=(follower, leaving)), NOW)
    assert (decision.status.failures.count, decision.status.preemptions.count) == (0, 1)


def test_a_silent_launcher_is_out_of_the_crew_after_its_lease() -> None:
    before = training_job()
    seen = world(pod(0), pod(1), launchers=(launcher(0, last_seen=later(16)), launcher(1, connected=False)))
    early = decide(before, seen, later(5))
    assert early.status.generation == 1
    assert early.requeue_after == pytest.approx(10.0)
    late = decide(before, seen, later(16))
    assert late.status.generation == 2
    assert counts(late) == (1, 0)
    assert [(one.reason, one.worker) for one in late.status.unsettled] == [("WorkerSilent", 1)]


def test_nobody_is_blamed_when_no_launcher_at_all_is_heard() -> None:
    silent = tuple(launcher(i, connected=False) for i in range(2))
    decision = decide(training_job(), world(pod(0), pod(1), launchers=silent), later(600))
    assert decision.status.generation == 1
    assert decision.status.phase == "Running"


def test_a_new_operator_that_knows_no_launcher_yet_changes_nothing() -> None:
    before = training_job()
    decision = decide(before, world(pod(0), pod(1)), NOW)
    assert decision.actions == ()
    assert (decision.status.generation, decision.status.phase) == (1, "Running")


@pytest.mark.parametrize(
    ("code", "retryable", "goes_on"),
    [
        (1, [], True),
        (78, [], False),
        (126, [], False),
        (127, [], False),
        (1, [3], False),
        (3, [3], True),
        (137, [3], True),
        (78, [78], True),
    ],
)
def test_exit_codes_decide_whether_another_try_makes_sense(code: int, retryable: list[int], goes_on: bool) -> None:
    before = training_job(spec(recovery={"retryableExitCodes": retryable}))
    broken = launcher(1, "ended", exits=(end(1, code, "why"),))
    decision = decide(before, world(pod(0), pod(1), launchers=(launcher(0), broken)), NOW)
    assert decision.status.failures.count == 1
    assert (decision.status.phase == "Recovering") is goes_on
    if not goes_on:
        assert condition(decision, "Failed") == ("True", "NotRetryable")


@pytest.mark.parametrize(
    ("recovery", "seen", "reason"),
    [
        ({"maxFailures": 0}, pod(1, phase="Failed", exit_code=1), "TooManyFailures"),
        ({"maxPreemptions": 0}, pod(1, phase="Failed", reason="Evicted"), "TooManyPreemptions"),
    ],
)
def test_a_spent_budget_fails_the_job_and_says_which(recovery, seen, reason) -> None:
    before = training_job(spec(recovery=recovery))
    decision = decide(before, world(pod(0), seen, launchers=(launcher(0),)), NOW)
    assert decision.status.phase == "Failed"
    assert condition(decision, "Failed") == ("True", reason)
    assert decision.status.completion_time is not None
    assert decision.order is not None
    assert decision.order.phase == "leave"
    # The failed pod stays, and with it its logs; nothing is created any more.
    assert decision.actions == ()


def test_failures_without_progress_back_off_and_progress_forgives_them() -> None:
    current = training_job(spec(recovery={"backoff": {"initialSeconds": 4, "maxSeconds": 10}}))
    delays = []
    for _ in range(4):
        generation = current.status.generation
        broken = launcher(1, "ended", generation, exits=(end(1, 1, step=40),))
        decision = decide(current, world(pod(0), pod(1), launchers=(launcher(0, "running", generation), broken)), NOW)
        assert decision.order is not None
        delays.append(decision.requeue_after if decision.order.phase == "hold" else 0)
        current = after(current, decision)
        current.status.not_before = None
    assert delays == [0, pytest.approx(4), pytest.approx(8), pytest.approx(10)]
    generation = current.status.generation
    further = launcher(1, "ended", generation, exits=(end(1, 1, step=60),))
    decision = decide(current, world(pod(0), pod(1), launchers=(launcher(0, "running", generation), further)), NOW)
    assert decision.status.failures_without_progress == 1
    assert decision.status.not_before is None


def test_while_backing_off_no_pod_is_created_and_the_crew_holds() -> None:
    current = training_job()
    current.status.furthest_step, current.status.failures_without_progress = 100, 1
    dead = decide(current, world(pod(0), pod(1, phase="Failed", exit_code=1), launchers=(launcher(0),)), NOW)
    holding = decide(after(current, dead), world(pod(0), launchers=(launcher(0),)), later(1))
    assert holding.actions == ()
    assert holding.order is not None
    assert holding.order.phase == "hold"
    assert condition(holding, "Ready") == ("False", "BackingOff")
    on = decide(after(current, holding), world(pod(0), launchers=(launcher(0),)), later(6))
    assert on.actions == (CreatePod(1),)
    assert on.order is not None
    assert on.order.phase == "run"


def test_a_named_claim_that_is_missing_is_said_and_no_pod_is_made() -> None:
    waiting = job(spec(checkpoint={"storage": {"claimName": "mine"}}))
    decision = decide(waiting, world(claim=None), NOW)
    assert decision.actions == ()
    assert condition(decision, "StorageReady") == ("False", "ClaimNotFound")
    assert condition(decision, "Degraded") == ("True", "ClaimNotFound")
    assert any("'mine'" in event.message for event in decision.events)
    healed = decide(after(waiting, decision), world(claim=Claim("mine", "Bound")), NOW)
    assert healed.actions == (CreatePod(0), CreatePod(1))
    assert condition(healed, "Degraded")[0] == "False"


@pytest.mark.parametrize(
    ("claim", "status", "reason", "pods"),
    [
        (Claim("c", "Bound"), "True", "ClaimBound", True),
        (Claim("c", "Pending"), "False", "ClaimPending", True),  # WaitForFirstConsumer needs a pod to bind
        (Claim("c", "Lost"), "False", "ClaimLost", False),
        (Claim("c", "Bound", deleting=True), "False", "ClaimDeleting", False),
    ],
)
def test_the_claims_state_is_told_and_decides_on_pods(claim, status, reason, pods) -> None:
    decision = decide(job(), world(claim=claim), NOW)
    assert condition(decision, "StorageReady") == (status, reason)
    assert bool(decision.actions) is pods


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (pod(0, phase="Pending", waiting_reason="ImagePullBackOff", waiting_message="no such tag"), "ImagePullFailed"),
        (pod(0, phase="Pending", waiting_reason="CreateContainerConfigError"), "ContainerCannotStart"),
        (pod(0, phase="Pending", unschedulable="0/3 nodes are available"), "PodUnschedulable"),
    ],
)
def test_what_keeps_a_pod_from_starting_is_said_once_and_heals(seen, reason) -> None:
    decision = decide(job(), world(seen, pod(1)), NOW)
    assert condition(decision, "Degraded") == ("True", reason)
    assert reasons(decision).count(reason) == 1
    again = decide(after(job(), decision), world(seen, pod(1)), later(60))
    assert reason not in reasons(again)
    assert again.status.failures.count == 0
    healed = decide(after(job(), again), world(pod(0), pod(1)), later(90))
    assert condition(healed, "Degraded")[0] == "False"


def test_a_refused_action_is_shown_in_the_servers_words() -> None:
    refusal = Refusal("CreatePod", "Forbidden", "exceeded quota: pods=1")
    decision = decide(job(), world(refusals=(refusal,)), NOW)
    assert condition(decision, "Degraded") == ("True", "CreatePodRefused")
    assert any("exceeded quota" in event.message for event in decision.events)


def test_a_notice_becomes_an_event_with_a_key_of_its_own() -> None:
    first = launcher(0, notices=(notice("a"), notice("b", "Resumed", "from step 40")))
    decision = decide(training_job(), world(pod(0), pod(1), launchers=(first, launcher(1))), NOW)
    told = {event.key: (event.type, event.reason) for event in decision.events if event.key}
    assert told == {"pod-0/a": ("Warning", "CheckpointRejected"), "pod-0/b": ("Normal", "Resumed")}


def test_a_pod_that_will_not_go_is_force_deleted_after_its_grace() -> None:
    before = training_job()
    silent = world(pod(0), pod(1), launchers=(launcher(0), launcher(1, connected=False)))
    lost = after(before, decide(before, silent, later(16)))
    stuck = pod(1, deleting_since=later(20), grace_seconds=30)
    waiting = decide(lost, world(pod(0), stuck), later(60))
    assert waiting.actions == ()
    assert waiting.requeue_after == pytest.approx(20)
    assert decide(lost, world(pod(0), stuck), later(81)).actions == (DeletePod(1, "pod-1", 0),)


def test_a_pod_being_deleted_before_it_had_a_place_is_waited_for() -> None:
    decision = decide(job(), world(pod(0, phase="Pending", deleting_since=NOW), pod(1)), NOW)
    assert decision.status.workers.members[0].pod_uid == ""
    assert decision.actions == ()


def test_old_news_of_an_older_generation_is_not_counted() -> None:
    before = training_job()
    before.status.generation = 3
    stale = launcher(1, "ended", 2, exits=(end(1, 1),))
    decision = decide(before, world(pod(0), pod(1), launchers=(launcher(0, "running", 2), stale)), NOW)
    assert decision.status.generation == 3
    assert decision.status.restarts == 0
