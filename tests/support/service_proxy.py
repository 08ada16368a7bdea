"""The coordinator's Service, as a node would play it: connections go where its EndpointSlice says.

Pod addresses are made up, for an EndpointSlice takes no loopback address; what stands at its port does so on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.kube_api import KubeApi

#: Name of the Service and of its slice.
SERVICE = "rowlock-coordinator"


class ServiceProxy:
    """Forwards connections to the leader. Everything but `close` and `slice` happens on its own thread."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api = api
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{SERVICE}"
        self._services = f"/api/v1/namespaces/{namespace}/services"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="service-proxy", daemon=True)
        self._thread.start()
        self._server: asyncio.Server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def create_service(self) -> None:
        """Create the Service itself: without a selector, as the chart does."""
        spec = {"ports": [{"name": "coordinator", "port": 8480}]}
        self._api.create(self._services, {"metadata": {"name": SERVICE}, "spec": spec}).ok()

    def slice(self) -> dict[str, Any]:
        """The EndpointSlice, empty when there is none."""
        answer = self._api.get(self._path)
        return answer.body if answer.status == 200 else {}

    def addresses(self) -> list[str]:
        """The addresses that the slice names."""
        return [address for endpoint in self.slice().get("endpoints") or [] for address in endpoint["addresses"]]

    def close(self) -> None:
        """Stop, and cut every connection."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _stop(self) -> None:
        self._server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            ports = (await asyncio.to_thread(self.slice)).get("ports")
            if ports:
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", ports[0]["port"])
                await asyncio.gather(_pipe(reader, there_writer), _pipe(there_reader, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass everything on; an end on either side is an end on both."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
