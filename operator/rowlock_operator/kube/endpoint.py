"""Where the leader is, for launchers: the EndpointSlice behind the coordinator's Service.

The Service selects nothing, because its pods are several and only one of them listens. So the leader writes into the
slice where it is itself, and looks after it from time to time, since everything hangs on it. The slice belongs to the
Service and is collected with it. A leader that is one no longer cannot bring its own address back: it writes the
version that it read, which its successor's write has made an old one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from typing import Any

from rowlock_operator.kube.backoff import delay_after
from rowlock_operator.kube.client import ApiError, Client
from rowlock_operator.kube.resources import ENDPOINT_SLICES, SERVICES
from rowlock_operator.resources.names import LABEL_MANAGED_BY, MANAGED_BY

Json = dict[str, Any]

#: How often the slice is looked after, in seconds: a launcher that finds nobody trains on and tries again for ever,
#: so this bounds how long a deleted slice goes unnoticed. One request each time.
CHECK_SECONDS = 30.0
PORT_NAME = "coordinator"

log = logging.getLogger("rowlock.leader")


class CoordinatorEndpoint:
    """Keeps the slice of the coordinator's Service at this leader's address.

    Args:
        client: A connection to the API server.
        namespace: Namespace of the Service.
        service: Name of the Service and of the slice.
        pod_ip: Address of this pod.
        port: Port the coordinator listens on.
    """

    def __init__(self, client: Client, *, namespace: str, service: str, pod_ip: str, port: int) -> None:
        self._client = client
        self._namespace = namespace
        self._service = service
        # By these kube-proxy finds the slice, and the cluster's own controllers know that it is not theirs.
        self._labels = {
            "kubernetes.io/service-name": service,
            "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
            LABEL_MANAGED_BY: MANAGED_BY,
        }
        self._wanted: Json = {
            "addressType": f"IPv{ipaddress.ip_address(pod_ip).version}",
            "endpoints": [{"addresses": [pod_ip], "conditions": {"ready": True}}],
            "ports": [{"name": PORT_NAME, "port": port, "protocol": "TCP"}],
        }

    async def run(self) -> None:
        """Write it, and write it again when it is not like that any more, for ever."""
        failures = 0
        while True:
            wait = CHECK_SECONDS
            try:
                await self._see_to_it()
                failures = 0
            except ApiError as error:
                failures += 1
                wait = max(error.retry_after, delay_after(failures))
                log.warning(
                    "launchers cannot find this leader: EndpointSlice %s/%s: %s; again in %.1f s",
                    self._namespace, self._service, error, wait,
                )  # fmt: skip
            await asyncio.sleep(wait)

    async def _see_to_it(self) -> None:
        held = await self._held()
        if held is None:
            await self._client.create(ENDPOINT_SLICES, self._namespace, await self._new())
        elif held["addressType"] != self._wanted["addressType"]:
            # It cannot be changed, and the operator may not delete: somebody moved the cluster to the other family.
            raise ApiError(
                0, "AddressType", f"it is of type {held['addressType']}, this pod's address is "
                f"{self._wanted['addressType']}: delete the slice, it is made anew",
            )  # fmt: skip
        elif self._is_off(held):
            meta = held["metadata"]
            meta = meta | {"labels": (meta.get("labels") or {}) | self._labels}
            body = held | self._wanted | {"metadata": meta}
            await self._client.replace(ENDPOINT_SLICES, self._namespace, self._service, body)
        else:
            return
        log.info("launchers find the coordinator at %s", self._wanted["endpoints"][0]["addresses"][0])

    def _is_off(self, held: Json) -> bool:
        return not _covers(held["metadata"].get("labels") or {}, self._labels) or any(
            _differs(held.get(part), self._wanted[part]) for part in ("endpoints", "ports")
        )

    async def _held(self) -> Json | None:
        try:
            return await self._client.get(ENDPOINT_SLICES, self._namespace, self._service)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    async def _new(self) -> Json:
        service = await self._client.get(SERVICES, self._namespace, self._service)
        owner = {"apiVersion": "v1", "kind": "Service", "name": self._service, "uid": service["metadata"]["uid"]}
        metadata = {
            "name": self._service,
            "namespace": self._namespace,
            "labels": self._labels,
            "ownerReferences": [owner],
        }
        return {"metadata": metadata, **self._wanted}


def _differs(held: Any, wanted: list[Json]) -> bool:
    """Whether what the server holds is other than wanted, what it filled in by itself aside."""
    if not isinstance(held, list) or len(held) != len(wanted):
        return True
    return any(not _covers(one, other) for one, other in zip(held, wanted, strict=True))


def _covers(held: Json, wanted: Json) -> bool:
    return all(
        _covers(held.get(key) or {}, value) if isinstance(value, dict) else held.get(key) == value
        for key, value in wanted.items()
    )
