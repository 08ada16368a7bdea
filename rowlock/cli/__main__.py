"""`python -m rowlock.cli` is `rowlock`."""

from rowlock.cli.main import main

main()
