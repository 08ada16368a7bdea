"""The entry point, and nothing else: ctrl-C is answered even while the command line is still being imported."""

from __future__ import annotations

import sys

#: Exit code of a command left with ctrl-C, as shells give it: 128 + SIGINT.
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line."""
    try:
        from rowlock.cli.app import app  # noqa: PLC0415 (takes a second, in which a person may change their mind)

        app()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
