"""Rowlock's part of the launcher's payload: what a worker imports, and nothing else.

The payload is copied into pods whose image has Python and torch but no Rowlock. The Dockerfile lays beside it the
packages of requirements/launcher.txt. Run by the Dockerfile as ``python3 images/payload.py FOLDER``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What a worker imports of `rowlock`; the rest of it needs pydantic.
SHARED = ("__init__.py", "protocol.py", "py.typed")


def write_payload(folder: Path) -> None:
    """Write the packages rowlock and rowlock_trainer and a ``__main__.py`` into `folder`, made if it is not there."""
    (folder / "rowlock").mkdir(parents=True)
    for name in SHARED:
        shutil.copyfile(ROOT / "rowlock" / name, folder / "rowlock" / name)
    trainer = ROOT / "trainer" / "rowlock_trainer"
    shutil.copytree(trainer, folder / "rowlock_trainer", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(trainer / "launcher" / "payload_main.py", folder / "__main__.py")


if __name__ == "__main__":
    write_payload(Path(sys.argv[1]))
