"""``python -m rowlock_trainer.launcher``: the same as the command ``rowlock-launcher``."""

import sys

from rowlock_trainer.launcher.main import main

if __name__ == "__main__":
    sys.exit(main())
