"""An operator's part among several: standing for election, and what the elected one shows of itself."""

from __future__ import annotations

import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rowlock_operator.kube.client import Client
from rowlock_operator.kube.credentials import ServiceAccount, load_configuration
from rowlock_operator.kube.deadline import Deadline
from rowlock_operator.kube.election import Election, Terms
from rowlock_operator.kube.endpoint import CoordinatorEndpoint
from rowlock_operator.kube.metrics import Metrics
from rowlock_operator.kube.settings import Settings


class Leadership:
    """The election this operator stands for, and where it is found once it leads."""

    def __init__(self, election: Election, endpoint: CoordinatorEndpoint) -> None:
        self.election = election
        self.endpoint = endpoint


@asynccontextmanager
async def leadership(settings: Settings, metrics: Metrics) -> AsyncIterator[Leadership | None]:
    """Give this process's leadership; None when it is the only operator and leads anyway.

    Raises:
        ConfigException: Neither a flag nor the service account says in which namespace the Lease is.
    """
    chosen = settings.election
    if chosen is None:
        yield None
        return
    namespace = chosen.namespace or ServiceAccount().namespace()
    terms = Terms(float(chosen.lease_seconds))
    configuration = await load_configuration(settings.kubeconfig)
    # Connections of its own, on which a renewal waits for nobody; and after a try that hangs there is time for another
    # before the lease is lost.
    async with Client(configuration, metrics, request_seconds=terms.renew / 2) as client:
        election = Election(
            client,
            namespace=namespace,
            name=chosen.name,
            # The host name is the pod's name; a pod's containers are restarted, so it alone is not unique.
            identity=f"{socket.gethostname()}_{uuid.uuid4()}",
            limit=Deadline(),
            terms=terms,
        )
        endpoint = CoordinatorEndpoint(
            client,
            namespace=namespace,
            service=chosen.service,
            pod_ip=chosen.pod_ip,
            port=settings.coordinator_port,
        )
        yield Leadership(election, endpoint)
