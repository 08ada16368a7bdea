"""The operator's own health and numbers over HTTP, for kubelet and Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

#: Says what is wrong, None when nothing is.
Check = Callable[[], str | None]


class Probes:
    """Serves /healthz, /readyz and /metrics."""

    def __init__(
        self, *, alive: Check, ready: Check, metrics: Callable[[], bytes], role: Callable[[], str] = lambda: ""
    ) -> None:
        self._alive = alive
        self._ready = ready
        self._metrics = metrics
        self._role = role
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port bound (port 0: the OS picks one)."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(self._alive())

    async def _readyz(self, _: web.Request) -> web.Response:
        role = self._role()
        return _answer(self._ready(), f"ok: {role}" if role else "ok")

    async def _scrape(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(trouble: str | None, well: str = "ok") -> web.Response:
    return web.Response(text=(trouble or well) + "\n", status=200 if trouble is None else 503)
