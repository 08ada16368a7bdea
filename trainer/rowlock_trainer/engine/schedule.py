"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from rowlock.protocol import ScheduleConfig


def factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """Return the factor on the base learning rate in one step.

    It rises linearly to 1 at step `warmup_steps`, then stays (constant) or falls to `final_factor` at the
    last step, in a line or along half a cosine (Loshchilov, Hutter, "SGDR", 2017, without restarts).

    Args:
        config: The schedule.
        step: Step to take, from 1.
        steps: Steps in all.
    """
    if step < config.warmup_steps:
        return step / config.warmup_steps
    if config.name == "constant":
        return 1.0
    way = min(1.0, (step - config.warmup_steps) / max(1, steps - config.warmup_steps))
    left = 1.0 - way if config.name == "linear" else 0.5 * (1.0 + math.cos(math.pi * way))
    return config.final_factor + (1.0 - config.final_factor) * left
