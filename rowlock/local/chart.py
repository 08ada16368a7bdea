"""The picture of a run: its loss step by step, and its steps over time, with every loss and resume marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rowlock.local.history import History
from rowlock.local.timeline import Recovery


def draw(path: Path, disturbed: History, undisturbed: History | None, recoveries: list[Recovery], title: str) -> None:
    """Write the picture (PNG or SVG by its suffix).

    Args:
        path: File to write.
        disturbed: The run with losses.
        undisturbed: The same job without, drawn behind it.
        recoveries: What to mark.
        title: Heading.
    """
    import matplotlib as mpl  # noqa: PLC0415 (a second's import that only pictures need)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), width_ratios=(3, 2), layout="constrained")
    figure.suptitle(title)
    _draw_losses(left, disturbed, undisturbed, recoveries)
    _draw_progress(right, disturbed, recoveries)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_losses(axes: Any, disturbed: History, undisturbed: History | None, recoveries: list[Recovery]) -> None:
    if undisturbed is not None:
        axes.plot(undisturbed.steps, undisturbed.losses, color="0.75", linewidth=5, label="never disturbed")
    for index, generation in enumerate(sorted(set(disturbed.generations))):
        part = disturbed.of(generation)
        axes.plot(part.steps, part.losses, linewidth=1.6, color=f"C{index}", label=f"generation {generation}")
    for index, recovery in enumerate(recoveries):
        axes.axvline(recovery.step_reached, color="C3", linestyle="--", label="worker killed" if index == 0 else None)
        axes.axvline(
            recovery.resumed_from, color="C2", linestyle=":", label="resumed from checkpoint" if index == 0 else None
        )
    axes.set(xlabel="optimizer step", ylabel="training loss", yscale="log")
    axes.legend(frameon=False)


def _draw_progress(axes: Any, disturbed: History, recoveries: list[Recovery]) -> None:
    if not disturbed.times:
        return
    start = disturbed.times[0]
    for index, generation in enumerate(sorted(set(disturbed.generations))):
        part = disturbed.of(generation)
        axes.plot([time - start for time in part.times], part.steps, ".-", markersize=3, color=f"C{index}")
    for recovery in recoveries:
        if recovery.stepped_at is None or recovery.seconds is None:
            continue
        axes.axvspan(recovery.lost_at - start, recovery.stepped_at - start, color="C3", alpha=0.2)
        axes.annotate(
            f"{recovery.seconds:.2f} s from kill\nto the next step",
            (recovery.stepped_at - start, recovery.resumed_from),
            xytext=(12, -4),
            textcoords="offset points",
            va="top",
        )
    axes.set(xlabel="seconds since the first logged step", ylabel="optimizer step")
