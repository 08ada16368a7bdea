"""`rowlock`: the command people type."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

import rowlock
from rowlock.api.manifest import ManifestError, load_manifest
from rowlock.api.v1alpha1 import DistributedTrainingJob

app = typer.Typer(
    name="rowlock",
    help="Distributed training that does not stop when workers die.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
#: Exit code for a command line or manifest that is wrong, as getopt-style tools give it.
EXIT_USAGE = 2

Manifest = Annotated[
    Path, typer.Argument(help="Manifest of a DistributedTrainingJob, YAML or JSON.", show_default=False)
]


@app.command()
def run(
    manifest: Manifest,
    state_dir: Annotated[Path, typer.Option(help="Where jobs live on this machine.")] = Path(".rowlock"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over; an earlier run is moved aside, not deleted.")
    ] = False,
    kill: Annotated[
        list[str] | None,
        typer.Option(
            help="Inject a fault: worker=2,step=40 ends that worker with SIGKILL after that step.", metavar="FAULT"
        ),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines instead of a live table.")] = False,
) -> None:
    """Run a job on this machine, with processes for pods.

    Ctrl-C saves and leaves; the same command goes on from there.
    """
    # Imported here because `rowlock check` and --help need no trainer and no operator.
    from rowlock.cli import run as command  # noqa: PLC0415

    console = Console()
    job = _load(manifest)
    if job.spec.suspend:
        _fail(f"{manifest}: spec.suspend is true, so there is nothing to run; set it to false")
    try:
        _refuse_finished(job, state_dir, fresh=fresh)
        outcome = command.run_job(job, console, state_dir=state_dir, fresh=fresh, kills=kill or [], plain=plain)
    except command.LocalError as error:
        _fail(str(error))
    raise typer.Exit(command.report(outcome, console, manifest))


def _refuse_finished(job: DistributedTrainingJob, state_dir: Path, *, fresh: bool) -> None:
    from rowlock.cli.run import already_finished  # noqa: PLC0415
    from rowlock.local.directory import JobDirectory, LocalError  # noqa: PLC0415

    done = None if fresh else already_finished(JobDirectory(state_dir, job.metadata.name), job)
    if done is not None:
        raise LocalError(
            f"{job.metadata.name} has already {done.status.phase.lower()} in {state_dir}; "
            "run it again from the start with --fresh (the old run is moved aside and kept)"
        )


@app.command()
def check(manifest: Manifest) -> None:
    """Check a manifest without running it."""
    job = _load(manifest)
    ranks = job.spec.workers * job.spec.processes_per_worker
    Console().print(
        f"{manifest}: {job.metadata.name} is a valid job of {job.spec.workers} workers, {ranks} processes",
        soft_wrap=True,
    )


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"rowlock {rowlock.__version__}")


def _load(path: Path) -> DistributedTrainingJob:
    try:
        return load_manifest(path)
    except ManifestError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(EXIT_USAGE)


def main() -> None:
    """Run the command line; the entry point."""
    app()


if __name__ == "__main__":
    sys.exit(app())
