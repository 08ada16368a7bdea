"""The environment that torchrun gives its processes, for commands that were written for it.

Names and meanings: https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
"""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

from rowlock_trainer.channel import RankSetup

_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Ports tried: above those of well-known services, below NodePorts (30000-32767) that kube-proxy may claim.
_LOWEST, _HIGHEST = 20_000, 29_999
_TRIES = 200
#: The budget is the operator's; torchrun's name for it wants a number, so it gets one no count reaches.
_NO_LIMIT = 2**31 - 1


def torchrun_environ(setup: RankSetup, store: str) -> dict[str, str]:
    """Return the variables of one rank.

    Args:
        setup: The rank.
        store: ``host:port`` of the rendezvous store, which global rank 0 opens.
    """
    worker = setup.worker
    host, _, port = store.rpartition(":")
    local_world_size = worker.processes_per_worker
    return {
        "PYTHONUNBUFFERED": os.environ.get("PYTHONUNBUFFERED", "1"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "RANK": str(setup.rank),
        "LOCAL_RANK": str(setup.local_rank),
        "WORLD_SIZE": str(setup.world_size),
        "LOCAL_WORLD_SIZE": str(local_world_size),
        "GROUP_RANK": str(worker.worker),
        "GROUP_WORLD_SIZE": str(setup.world_size // local_world_size),
        "ROLE_NAME": "default",
        "ROLE_RANK": str(setup.rank),
        "ROLE_WORLD_SIZE": str(setup.world_size),
        "MASTER_ADDR": host.strip("[]"),
        "MASTER_PORT": port,
        "TORCHELASTIC_RESTART_COUNT": str(setup.generation - 1),
        "TORCHELASTIC_MAX_RESTARTS": str(_NO_LIMIT),
        "TORCHELASTIC_RUN_ID": worker.job_uid,
        "ROWLOCK_GENERATION": str(setup.generation),
        "ROWLOCK_CHECKPOINT_DIR": worker.checkpoint.directory,
        "ROWLOCK_JOB": worker.job,
    }


def choose_master_port() -> int:
    """Return a free port that the operating system will not give to a connection in the meantime.

    Between this choice and the command's own bind the port is not held, so it lies outside the range from
    which outgoing connections get theirs, and is drawn at random, so that two jobs on one host network
    rarely meet.
    """
    low, high = _ephemeral_range()
    ports = [port for port in range(_LOWEST, _HIGHEST + 1) if not low <= port <= high]
    for port in random.sample(ports, min(_TRIES, len(ports))):
        if _is_free(port):
            return port
    # The range is covered by the ephemeral ports or taken: the system's own choice is the best that is left.
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _ephemeral_range() -> tuple[int, int]:
    low, high = _EPHEMERAL_RANGE.read_text().split()
    return int(low), int(high)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
