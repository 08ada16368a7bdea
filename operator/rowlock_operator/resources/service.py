"""The headless service that gives every worker a DNS name which outlives its pod."""

from __future__ import annotations

from typing import Any

from rowlock_operator.core.model import Job
from rowlock_operator.resources.names import LABEL_JOB, metadata, service_name

#: torch.distributed's customary port. A headless service routes nothing: it only names the port that
#: tools show. The rendezvous store listens where the operating system lets it.
RENDEZVOUS_PORT = 29500


def build_service(job: Job) -> dict[str, Any]:
    """Return the headless Service of `job`.

    Addresses are published before pods are ready: ranks find each other while they are starting.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(job, service_name(job.name)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {LABEL_JOB: job.name},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT, "protocol": "TCP"}],
        },
    }
