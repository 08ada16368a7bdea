"""The whole promise in one go: train, kill a worker, go on, and end with the very same weights.

Runs examples/digits.yaml on this machine twice, once with a worker ended by SIGKILL half-way and once
undisturbed, prints what it cost, and draws the loss of both. Exits with 1 if the weights differ.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rowlock.api.manifest import load_manifest
from rowlock.local.chart import draw
from rowlock.local.history import History
from rowlock.local.timeline import Recovery
from rowlock_trainer.checkpoint import list_checkpoints, weights_digest

MANIFEST = Path(__file__).with_name("digits.yaml")


def train(state: Path, kill: str | None) -> float:
    """Run the job with its state in `state`; return the seconds it took."""
    command = [sys.executable, "-m", "rowlock.cli", "run", str(MANIFEST), "--state-dir", str(state), "--fresh"]
    started = time.monotonic()
    ended = subprocess.run([*command, *(["--kill", kill] if kill else [])], check=False)
    if ended.returncode != 0:
        sys.exit(f"the run in {state} ended with exit code {ended.returncode}; its logs are in {state}")
    return time.monotonic() - started


def result(job: Path) -> tuple[dict[str, str], str, list[Recovery], History]:
    """Return held-out results, digest of the final weights, recoveries and history of the run that `job` holds."""
    status = json.loads((job / "job.json").read_text())["status"]
    newest = max(list_checkpoints(job / "checkpoints"), key=lambda note: note.step)
    recoveries = [Recovery(**fields) for fields in json.loads((job / "recoveries.json").read_text())]
    digest = weights_digest(job / "checkpoints", newest.name)
    return status["progress"]["evaluation"], digest, recoveries, History.read(job / "checkpoints" / "metrics.jsonl")


def main() -> int:
    """Run both, compare, and say so."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(".rowlock/demo"), help="where everything is written")
    parser.add_argument("--kill", default="worker=2,step=330", help="which worker is killed, and after which step")
    options = parser.parse_args()
    console = Console()
    job = load_manifest(MANIFEST)
    place = Path(job.metadata.namespace, job.metadata.name)

    console.rule(f"[bold]1. {job.spec.workers} workers train, and one is killed: {escape(options.kill)}")
    killed_seconds = train(options.out / "killed", options.kill)
    console.rule("[bold]2. the same job, undisturbed")
    calm_seconds = train(options.out / "undisturbed", None)

    evaluation, digest, recoveries, history = result(options.out / "killed" / place)
    calm_evaluation, calm_digest, _, calm_history = result(options.out / "undisturbed" / place)
    same = digest == calm_digest
    picture = options.out / "loss.png"
    draw(picture, history, calm_history, recoveries, "A worker is killed; the crew goes on from its checkpoint")

    table = Table(title="What a kill costs", title_style="bold")
    for column, justify in (("", "left"), ("with a kill", "right"), ("undisturbed", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name in evaluation:
        table.add_row(f"held-out {name}", evaluation[name], calm_evaluation[name])
    for recovery in recoveries:
        took = "-" if recovery.seconds is None else f"{recovery.seconds:.2f}"
        table.add_row("steps lost (done again)", recovery.words, "0")
        table.add_row("seconds from kill to next step", took, "-")
    table.add_row("seconds in all", f"{killed_seconds:.1f}", f"{calm_seconds:.1f}")
    table.add_row("final weights (sha256)", digest[:16], calm_digest[:16])
    table.add_row("final weights bitwise equal", "[green]yes" if same else "[bold red]NO", "")
    console.print(table)
    console.print(f"loss curve: {picture}", soft_wrap=True, markup=False)
    if not recoveries:
        console.print("[bold red]no worker was killed[/]: is the step beyond the end of the job?")
    return 0 if same and recoveries else 1


if __name__ == "__main__":
    sys.exit(main())
