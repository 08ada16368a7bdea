"""The API server, spoken to in plain JSON.

The generated client serves for what is hard to get right, credentials and TLS, and is left out of the
rest: its typed models cost a multiple of the request in CPU and refuse what a newer server says. Every
request is counted, bounded in time, and its error carries what the server said in words.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException

from rowlock_operator.kube.metrics import Metrics
from rowlock_operator.kube.resources import Resource

Json = dict[str, Any]

#: Time one request may take, in seconds. The API server's own limit is 60: past half of that, trying
#: again is the better bet.
REQUEST_SECONDS = 30.0
#: Objects in one page of a list: client-go's default.
PAGE = 500
#: Connections kept: one per reconcile worker and some for lists and tokens.
CONNECTIONS = 32
MERGE_PATCH = "application/merge-patch+json"
JSON = "application/json"


@dataclass
class ApiError(Exception):
    """The API server's refusal, or (status 0) that it could not be asked."""

    status: int
    reason: str
    message: str
    #: Seconds after which the server wishes to be asked again, 0 when it did not say.
    retry_after: float = 0.0
    #: Machine-readable causes: the field and what is wrong with it.
    causes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.reason or 'Error'} ({self.status or 'no answer'}): {self.message}"

    @property
    def refusal(self) -> bool:
        """Whether asking again would be answered the same until somebody changes something."""
        return self.status in (400, 403, 422)


class Client:
    """A connection to the API server. Use as an async context manager.

    Args:
        configuration: How to reach it.
        metrics: Where requests are counted.
        request_seconds: Time one request may take.
    """

    def __init__(
        self, configuration: Configuration, metrics: Metrics, *, request_seconds: float = REQUEST_SECONDS
    ) -> None:
        configuration.connection_pool_maxsize = CONNECTIONS
        self._configuration = configuration
        self._metrics = metrics
        self._request_seconds = request_seconds
        self._api = ApiClient(configuration)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Return one object. Raises `ApiError`, with status 404 when there is none."""
        return await self._request("GET", "get", resource, resource.path(namespace, name))

    async def list(self, resource: Resource, namespace: str | None, selector: str = "") -> tuple[list[Json], str]:
        """Return all objects that `selector` matches, and the version the list was taken at."""
        items: list[Json] = []
        query: dict[str, str] = {"limit": str(PAGE)}
        if selector:
            query["labelSelector"] = selector
        version = ""
        while True:
            page = await self._request("GET", "list", resource, resource.path(namespace), query=query)
            items += page.get("items") or []
            version = page["metadata"]["resourceVersion"]
            rest = page["metadata"].get("continue")
            if not rest:
                return items, version
            query["continue"] = rest

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        """Create an object and return it as the server keeps it."""
        return await self._request("POST", "create", resource, resource.path(namespace), body)

    async def replace(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        """Replace an object by `body` and return it; 409 if it is not of the version that `body` names."""
        return await self._request("PUT", "update", resource, resource.path(namespace, name), body)

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Json, subresource: str | None = None
    ) -> Json:
        """Apply a JSON merge patch (RFC 7386) and return the object."""
        path = resource.path(namespace, name, subresource)
        return await self._request("PATCH", "patch", resource, path, body, content_type=MERGE_PATCH)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, grace_seconds: int | None = None
    ) -> Json:
        """Delete this very object: with another UID the server answers 409."""
        options: Json = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        return await self._request("DELETE", "delete", resource, resource.path(namespace, name), options)

    async def _request(
        self,
        method: str,
        verb: str,
        resource: Resource,
        path: str,
        body: Json | None = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = JSON,
    ) -> Json:
        url = self._configuration.host + path + ("?" + urlencode(query) if query else "")
        headers = {"Content-Type": content_type, "Accept": JSON, "User-Agent": "rowlock-operator"}
        headers |= await self._credentials()
        status = 0
        try:
            answer = await self._api.call_api(method, url, headers, body, _request_timeout=self._request_seconds)
            status = answer.status
            text = await answer.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            words = str(error) or type(error).__name__
            raise ApiError(0, "Unreachable", f"{method} {path}: {words}") from error
        finally:
            self._metrics.api_requests.labels(verb, resource.plural, str(status or "error")).inc()
        if status >= 400:
            raise _error(status, text, answer.headers.get("Retry-After", ""))
        parsed = _parsed(text)
        if parsed is None:
            raise ApiError(0, "Garbled", f"{method} {path}: the answer is not a JSON object")
        return parsed

    async def _credentials(self) -> dict[str, str]:
        """The authorization header; asking for it renews a token that has run out."""
        try:
            settings: dict[str, Any] = dict(await self._configuration.auth_settings())
        except (OSError, ConfigException) as error:
            raise ApiError(0, "NoCredentials", str(error)) from error
        return {entry["key"]: entry["value"] for entry in settings.values() if entry["value"]}


def _parsed(text: bytes) -> Json | None:
    try:
        parsed = json.loads(text)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _error(status: int, text: bytes, retry_after: str) -> ApiError:
    """Return the error that a metav1.Status describes; a proxy's page of HTML is shortened to its start."""
    told = _parsed(text) or {}
    details = told.get("details") or {}
    seconds = retry_after if retry_after.isdecimal() else str(details.get("retryAfterSeconds") or 0)
    causes = tuple(
        f"{cause.get('field', '')}: {cause.get('message', '')}".removeprefix(": ")
        for cause in details.get("causes") or []
    )
    return ApiError(
        status=status,
        reason=str(told.get("reason") or ""),
        message=str(told.get("message") or text[:200].decode(errors="replace")),
        retry_after=float(seconds),
        causes=causes,
    )
