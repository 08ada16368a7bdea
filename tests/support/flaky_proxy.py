"""A reverse proxy in front of the API server that misbehaves as networks and busy servers do.

Refusals before the request arrives (429, 500, 503), connections cut before it, and, hardest on a client that
counts, connections cut *after* the server has done what was asked. Faults come from a seeded generator, so
that a failure can be repeated.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
from collections import Counter
from typing import TYPE_CHECKING, Literal

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.control_plane import ControlPlane

Moment = Literal["before", "after"]

#: What can go wrong, and its share of the faults.
FAULTS = ("throttled", "error", "unavailable", "cut before", "cut after", "garbled")
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "content-encoding", "host", "keep-alive"}


class FlakyProxy:
    """Passes requests on, but for a share of them. A context manager."""

    def __init__(self, plane: ControlPlane, seed: int) -> None:
        self._plane = plane
        self._random = random.Random(seed)
        #: Share of requests, watches aside, that go wrong.
        self.share = 0.0
        #: While set, nothing passes: every request, and every watch under way, is cut.
        self.away = False
        #: A resource of which watches tell nothing any more, though they do not end; lists pass.
        self.mute = ""
        #: Deletions still to be refused with a conflict, as an admission webhook may, while the object lives.
        self.vetoes = 0
        #: How often each fault struck.
        self.struck: Counter[str] = Counter()
        #: Called around every write with its number from 1 and "before" or "after" it reached the server;
        #: what it answers says whether request or answer may pass.
        self.around_write: Callable[[int, Moment], bool] | None = None
        self.writes = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="flaky-proxy", daemon=True)
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.url = ""

    def __enter__(self) -> FlakyProxy:
        self._thread.start()
        port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> int:
        tls = ssl.create_default_context(cafile=str(self._plane.authority))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._session.close()
        await self._runner.cleanup()
        # What was cut hangs on: end it here, where the loop can still say goodbye.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self.away:
            return _cut(request)
        if self.mute and "watch" in request.query and request.path.endswith(f"/{self.mute}"):
            return await self._keep_silent(request)
        if request.method == "DELETE" and self.vetoes > 0:
            self.vetoes -= 1
            return _status(409, "Conflict")
        fault = self._fault(request)
        if fault is not None:
            self.struck[fault] += 1
        if (refusal := _refusal(fault, request)) is not None:
            return refusal
        if request.method == "GET" or self.around_write is None:
            return await self._forward(request, fault)
        self.writes += 1
        number = self.writes
        if not self.around_write(number, "before"):
            return _cut(request)
        return await self._forward(request, fault, asked=lambda: self._after(number))

    async def _keep_silent(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    def _after(self, number: int) -> bool:
        return self.around_write is None or self.around_write(number, "after")

    def _fault(self, request: web.Request) -> str | None:
        if "watch" in request.query or not request.path.startswith(("/apis/rowlock", "/api/v1/namespaces")):
            return None
        return self._random.choice(FAULTS) if self._random.random() < self.share else None

    async def _forward(
        self, request: web.Request, fault: str | None, asked: Callable[[], bool] | None = None
    ) -> web.StreamResponse:
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        body = await request.read()
        try:
            async with self._session.request(
                request.method, self._plane.url + request.path_qs, headers=headers, data=body or None
            ) as answer:
                if asked is not None and not asked():
                    return _cut(request)
                if fault == "cut after":
                    await answer.read()
                    return _cut(request)
                if fault == "garbled":
                    return web.Response(status=answer.status, text='{"kind": "Sta')
                return await _pass_on(request, answer)
        except aiohttp.ClientError:
            return _cut(request)


async def _pass_on(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except (aiohttp.ClientError, ConnectionError):
        return _cut(request)
    return response


def _refusal(fault: str | None, request: web.Request) -> web.Response | None:
    """The answer to a request that never reaches the server; None for one that does."""
    if fault == "throttled":
        return _status(429, "TooManyRequests", {"Retry-After": "1"})
    if fault == "error":
        return _status(500, "InternalError")
    if fault == "unavailable":
        return web.Response(status=503, text="<html>upstream is away</html>", content_type="text/html")
    return _cut(request) if fault == "cut before" else None


def _status(code: int, reason: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "code": code,
        "message": reason,
    }
    return web.json_response(body, status=code, headers=headers)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
