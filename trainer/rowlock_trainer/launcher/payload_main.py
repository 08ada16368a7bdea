"""The ``__main__.py`` of the launcher's payload: ``python3 /opt/rowlock/launcher`` starts a worker.

The payload is a folder with this file, Rowlock's own packages and the few they import, all pure Python, that is
copied into pods whose image has Python and torch but no Rowlock. Python puts the folder of a `__main__.py` first
on ``sys.path``, so nothing else needs to be told where the packages are, and a command's own Python never sees them.
"""

import sys

from rowlock_trainer.launcher.main import main

if __name__ == "__main__":
    sys.exit(main())
