"""The ``__main__.py`` of the launcher's payload: ``python3 /opt/rowlock/launcher`` starts a worker.

The payload is a folder with this file, Rowlock's own packages and the few they import, all pure Python, that is
copied into pods whose image has Python and torch but no Rowlock. Python puts the folder of a `__main__.py` first
on ``sys.path``, so nothing else needs to be told where the packages are, and a command's own Python never sees them.
"""

import sys

#: rowlock.protocol.ExitCode.CONFIG, which an older Python cannot import: another try would end the same.
_CANNOT_RUN = 78

if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 (this one file runs on whatever Python the image has)
        found = f"{sys.version_info[0]}.{sys.version_info[1]}"
        sys.stdout.write(
            f"launcher: cannot start: the image's python3 is {found}, Rowlock needs 3.11 or newer. Take an image with "
            "a newer one, or set PATH in spec.template's container trainer to where it is\n"
        )
        sys.exit(_CANNOT_RUN)
    from rowlock_trainer.launcher.main import main

    sys.exit(main())
