"""How long a kill stops the crew on one machine: from SIGKILL of a worker to the next new step of all ranks.

Each run trains the digits job with four workers and ends every one of them once, launcher and ranks, at
different steps; a run therefore gives four recoveries, one of them of the worker that leads (rank 0 and the
store). Between kill and step lie: the loss is seen, the next generation is written and ordered, a process is
forked for the lost worker and ranks for all, they load the last verified checkpoint, and take a step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

KILL_STEPS = (70, 130, 190, 250)
STEPS = 300


def recoveries(directory: Path) -> list[dict[str, float]]:
    """Run the job once and return its recoveries."""
    manifest = yaml.safe_load((Path(__file__).parent.parent / "examples" / "digits.yaml").read_text())
    manifest["spec"]["trainer"]["steps"] = STEPS
    manifest["spec"]["checkpoint"]["everySteps"] = 20
    manifest["spec"]["recovery"] = {"maxFailures": len(KILL_STEPS)}
    path = directory / "digits.yaml"
    path.write_text(yaml.safe_dump(manifest))
    kills = [f"--kill=worker={(worker + 1) % 4},step={step}" for worker, step in enumerate(KILL_STEPS)]
    command = [sys.executable, "-m", "rowlock.cli", "run", str(path), "--state-dir", str(directory), "--plain"]
    ended = subprocess.run([*command, *kills], check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        sys.exit(f"a run ended with exit code {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    found: list[dict[str, float]] = json.loads((directory / "default" / "digits" / "recoveries.json").read_text())
    if len(found) != len(KILL_STEPS):
        sys.exit(f"{len(KILL_STEPS)} workers were killed, but {len(found)} recoveries were seen:\n{ended.stdout}")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of four kills each")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()

    seconds: list[float] = []
    steps: list[float] = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as directory:
            for one in recoveries(Path(directory)):
                seconds.append(one["stepped_at"] - one["lost_at"])
                steps.append(one["step_reached"] - one["resumed_from"])
    figures = {
        "trials": len(seconds),
        "seconds_median": statistics.median(seconds),
        "seconds_worst": max(seconds),
        "seconds_best": min(seconds),
        "steps_lost_median": statistics.median(steps),
        "seconds": seconds,
    }
    table = Table(title=f"SIGKILL of one of 4 workers -> next new step of all ranks ({len(seconds)} trials)")
    for column in ("best", "median", "worst", "steps done again (median, checkpoint every 20)"):
        table.add_column(column, justify="right")
    table.add_row(
        *(f"{figures[name]:.2f} s" for name in ("seconds_best", "seconds_median", "seconds_worst")),
        f"{figures['steps_lost_median']:.0f}",
    )
    Console().print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
