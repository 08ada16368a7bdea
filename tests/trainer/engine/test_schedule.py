"""The learning rate as a function of the step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowlock.protocol import ScheduleConfig
from rowlock_trainer.engine.schedule import factor


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2]),
        ("cosine", [0.25, 0.5, 0.75, 1.0, 0.882843, 0.6, 0.317157, 0.2]),
    ],
)
def test_it_rises_to_its_base_and_falls_to_its_end(name: str, expected: list[float]) -> None:
    config = ScheduleConfig(name, warmup_steps=4, final_factor=0.2)  # type: ignore[arg-type]
    assert [factor(config, step, 8) for step in range(1, 9)] == pytest.approx(expected, abs=1e-6)


@given(
    name=st.sampled_from(["constant", "linear", "cosine"]),
    steps=st.integers(1, 1000),
    share=st.floats(0, 1),
    final=st.floats(0, 1),
    at=st.floats(0, 1),
)
def test_it_stays_between_zero_and_its_base(name: str, steps: int, share: float, final: float, at: float) -> None:
    config = ScheduleConfig(name, int(share * steps), final)  # type: ignore[arg-type]
    step = max(1, round(at * steps))
    assert 0.0 <= factor(config, step, steps) <= 1.0
