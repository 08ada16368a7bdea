"""One thread a process: the crews here share few cores, and a parent that forks must hold no threads."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture
def root(tmp_path):
    """Where the checkpoints go."""
    return tmp_path / "checkpoints"


def pytest_configure(config):
    # torch warns of a save without a process group; a crew of one is meant to have none.
    config.addinivalue_line("filterwarnings", "ignore:torch.distributed is disabled:UserWarning")
