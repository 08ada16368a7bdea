"""`rowlock`: the command people type."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn, TextIO, cast

import typer
from rich.console import Console

import rowlock
from rowlock.api.manifest import ManifestError, load_manifest
from rowlock.api.v1alpha1 import DistributedTrainingJob
from rowlock.cli.output import LastingOutput

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
            help="Inject a fault: worker=2,step=40 ends that worker with SIGKILL after that step. May be repeated.",
            metavar="FAULT",
        ),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines instead of a live table.")] = False,
) -> None:
    """Run a job on this machine, with processes for pods.

    Ctrl-C saves and leaves; the same command goes on from there.
    """
    # Imported here because `rowlock check` and --help need no trainer and no operator.
    from rowlock.cli import run as command  # noqa: PLC0415
    from rowlock.cli.report import report  # noqa: PLC0415

    console = _console()
    job = _load(manifest)
    if job.spec.suspend:
        _fail(f"{manifest}: spec.suspend is true, so there is nothing to run; set it to false")
    try:
        outcome = command.run_job(job, console, state_dir=state_dir, fresh=fresh, kills=kill or [], plain=plain)
    except command.LocalError as error:
        _fail(str(error))
    raise typer.Exit(report(outcome, console, manifest))


@app.command()
def check(manifest: Manifest) -> None:
    """Check a manifest without running it."""
    job = _load(manifest)
    ranks = job.spec.workers * job.spec.processes_per_worker
    typer.echo(f"{manifest}: {job.metadata.name} is a valid job of {job.spec.workers} workers, {ranks} processes")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"rowlock {rowlock.__version__}")


def _console() -> Console:
    # No markup: names, paths and tracebacks come from outside, and may hold brackets of their own.
    return Console(file=cast("TextIO", LastingOutput(sys.stdout)), markup=False, highlight=False)


def _load(path: Path) -> DistributedTrainingJob:
    try:
        return load_manifest(path)
    except ManifestError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(EXIT_USAGE)
