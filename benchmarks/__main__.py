"""`python -m benchmarks`: every benchmark, one after the other, with its table and its JSON."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from rich.console import Console

#: In the order of how long they take, shortest first, so that a mistake shows early.
PROGRAMS = ("checkpoint_stall", "throughput", "local_recovery", "operator_scale")


def main() -> int:
    """Run them all; return 1 if any failed, after the others have run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(".rowlock/bench"), help="where the JSON goes")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(PROGRAMS)}; all when none")
    options = parser.parse_args()
    unknown = set(options.names) - set(PROGRAMS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(PROGRAMS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    failed = []
    for name in options.names or PROGRAMS:
        console.rule(f"[bold]{name}")
        target = options.out / f"{name}.json"
        ended = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--json", str(target)], check=False)
        if ended.returncode != 0:
            failed.append(name)
    if failed:
        console.print(f"[bold red]failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
