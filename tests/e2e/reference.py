"""What an undisturbed run on this machine ends with: every run on the cluster must end with the same weights."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import yaml

from rowlock_trainer.checkpoint import list_checkpoints, weights_digest

#: A run of a few hundred small steps takes seconds; importing torch on a busy machine takes most of it.
DEADLINE = 300.0


def local_weights(manifest: Path, state: Path) -> str:
    """Run a manifest with `rowlock run`; return the SHA-256 of its final weights."""
    command = [sys.executable, "-m", "rowlock.cli", "run", str(manifest), "--state-dir", str(state), "--fresh"]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=DEADLINE)
    assert done.returncode == 0, f"rowlock run ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    meta = yaml.safe_load(manifest.read_text())["metadata"]
    checkpoints = state / meta.get("namespace", "default") / meta["name"] / "checkpoints"
    newest = max(list_checkpoints(checkpoints), key=lambda note: note.step)
    return weights_digest(checkpoints, newest.name)


class References:
    """Final weights by spec, each computed once in a session."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.of = cache(self._of)

    def of_spec(self, spec: dict[str, object]) -> str:
        """Final weights of a spec, run under the name `crew`."""
        return self.of(yaml.safe_dump(spec, sort_keys=True))

    def _of(self, text: str) -> str:
        folder = self._folder / f"reference-{abs(hash(text))}"
        folder.mkdir()
        manifest = folder / "crew.yaml"
        job = {
            "apiVersion": "rowlock.dev/v1alpha1",
            "kind": "DistributedTrainingJob",
            "metadata": {"name": "crew"},
            "spec": yaml.safe_load(text),
        }
        manifest.write_text(yaml.safe_dump(job))
        return local_weights(manifest, folder / "state")
