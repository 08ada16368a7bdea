"""What the server refused is told once, tried again with patience, and forgotten when it works."""

from __future__ import annotations

from rowlock_operator.core.model import Action, CreatePod, CreateService, Refusal
from rowlock_operator.kube.refused import Refused

KEY = ("lab", "digits")
PODS: tuple[Action, ...] = (CreatePod(0), CreatePod(1))
QUOTA = Refusal("CreatePod", "Forbidden", "exceeded quota")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_refused_kind_waits_while_others_go_on() -> None:
    refused = Refused(Clock())
    assert refused.note(KEY, 1, PODS, PODS, [QUOTA, QUOTA])
    assert refused.of(KEY) == (QUOTA,)
    assert refused.due(KEY, 1, (CreateService(), *PODS)) == (CreateService(),)


def test_the_same_refusal_again_is_no_news_and_waits_longer() -> None:
    clock = Clock()
    refused = Refused(clock)
    refused.note(KEY, 1, PODS, PODS, [QUOTA])
    first = refused.again_after(KEY)
    assert first is not None
    clock.now = first
    assert refused.due(KEY, 1, PODS) == PODS
    assert not refused.note(KEY, 1, PODS, PODS, [QUOTA])
    again = refused.again_after(KEY)
    assert again is not None
    assert again >= first / 2


def test_skipped_actions_keep_their_refusal() -> None:
    refused = Refused(Clock())
    refused.note(KEY, 1, PODS, PODS, [QUOTA])
    assert not refused.note(KEY, 1, PODS, (), [])
    assert refused.of(KEY) == (QUOTA,)


def test_a_changed_spec_is_tried_at_once() -> None:
    refused = Refused(Clock())
    refused.note(KEY, 1, PODS, PODS, [QUOTA])
    assert refused.due(KEY, 2, PODS) == PODS


def test_success_forgets() -> None:
    refused = Refused(Clock())
    refused.note(KEY, 1, PODS, PODS, [QUOTA])
    assert refused.note(KEY, 1, PODS, PODS, [])
    assert refused.of(KEY) == ()
    assert refused.again_after(KEY) is None


def test_what_is_told_is_what_was_said_last_and_the_same_of_two_whichever_came_first() -> None:
    refused = Refused(lambda: 0.0)
    assert refused.note(KEY, 1, PODS, PODS, [QUOTA])
    security = Refusal("CreatePod", "Forbidden", "violates PodSecurity")
    assert refused.note(KEY, 1, PODS, PODS, [security])
    assert refused.of(KEY) == (security,)
    assert refused.note(KEY, 1, PODS, PODS, [security, QUOTA])
    assert not refused.note(KEY, 1, PODS, PODS, [QUOTA, security])
