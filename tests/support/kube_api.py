"""A few lines of client for tests: JSON in, status and JSON out.

Tests look at what the API server answers to exactly what they send. A full client would add its own models,
retries and error classes in between.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

JsonObject = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    status: int
    body: JsonObject
    warnings: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """The message of a metav1.Status, empty for an object."""
        return str(self.body.get("message", "")) if self.body.get("kind") == "Status" else ""

    def ok(self) -> JsonObject:
        """The body; fails the test if the answer was a refusal."""
        assert self.status < 300, f"{self.status}: {self.message or self.body}"
        return self.body


class KubeApi:
    """Requests to one API server as its admin.

    Every request has a connection of its own, so that none depends on what happened to one before. With
    `keep` a thread's requests share one, which halves what a small request costs: for those who make thousands.
    """

    def __init__(self, url: str, token: str, authority: Path | str, *, keep: bool = False) -> None:
        """`authority` is the file of the server's certificate authority, or its text."""
        self.url = url
        self._address = urlsplit(url).netloc
        self._token = token
        given = {"cadata": authority} if isinstance(authority, str) else {"cafile": str(authority)}
        self._tls = ssl.create_default_context(**given)
        self._keep = keep
        self._kept = threading.local()

    @classmethod
    def of_kubeconfig(cls, path: Path) -> KubeApi:
        """A client from a kubeconfig with one user, who has a token."""
        config = yaml.safe_load(path.read_text())
        cluster = config["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return cls(cluster["server"], config["users"][0]["user"]["token"], authority)

    def request(
        self, method: str, path: str, body: JsonObject | None = None, content_type: str = "", **query: str
    ) -> Answer:
        """One request. `path` is absolute; `query` are its parameters.

        Raises:
            OSError: the server cannot be reached.
        """
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type or "application/json"
        payload = json.dumps(body) if body is not None else None
        target = f"{path}?{urlencode(query)}" if query else path
        connection: http.client.HTTPSConnection | None = getattr(self._kept, "connection", None)
        if connection is not None:
            try:
                return self._ask(connection, method, target, payload, headers)
            except (OSError, http.client.HTTPException):
                # The server closed it meanwhile, or is another one by now: what follows shows which.
                self._kept.connection = None
        connection = http.client.HTTPSConnection(self._address, context=self._tls, timeout=30)
        return self._ask(connection, method, target, payload, headers)

    def _ask(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        target: str,
        payload: str | None,
        headers: dict[str, str],
    ) -> Answer:
        try:
            connection.request(method, target, payload, headers)
            response = connection.getresponse()
            text = response.read().decode()
            warnings = tuple(response.headers.get_all("Warning") or ())
        except BaseException:
            connection.close()
            raise
        if self._keep and not response.will_close:
            self._kept.connection = connection
        else:
            connection.close()
        return Answer(response.status, _as_object(text), warnings)

    def get(self, path: str, **query: str) -> Answer:
        return self.request("GET", path, None, "", **query)

    def create(self, path: str, body: JsonObject, **query: str) -> Answer:
        return self.request("POST", path, body, **query)

    def replace(self, path: str, body: JsonObject, **query: str) -> Answer:
        return self.request("PUT", path, body, **query)

    def merge(self, path: str, body: JsonObject, **query: str) -> Answer:
        """JSON merge patch; `path` may end in /status."""
        return self.request("PATCH", path, body, MERGE_PATCH, **query)

    def delete(self, path: str, **query: str) -> Answer:
        return self.request("DELETE", path, None, "", **query)

    def watch(self, path: str, **query: str) -> Iterator[JsonObject]:
        """Changes of a collection as they come, until the server ends the watch or says nothing for long.

        Raises:
            OSError: the server cannot be reached, or is gone.
        """
        # Bookmarks come about once a minute: a connection that is silent for 150 s leads nowhere.
        target = f"{path}?{urlencode({'watch': 'true', 'allowWatchBookmarks': 'true', **query})}"
        connection = http.client.HTTPSConnection(self._address, context=self._tls, timeout=150)
        try:
            connection.request("GET", target, headers={"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            if response.status != 200:
                raise OSError(f"{target}: {response.status} {response.reason}")
            for line in response:
                yield json.loads(line)
        finally:
            connection.close()

    def list(self, path: str, **query: str) -> list[JsonObject]:
        items = self.get(path, **query).ok()["items"]
        assert isinstance(items, list)
        return items


def _as_object(text: str) -> JsonObject:
    try:
        value = json.loads(text)
    except ValueError:
        return {"text": text}
    return value if isinstance(value, dict) else {"value": value}


def wait_until(
    condition: Callable[[], bool], deadline_seconds: float, what: str, interval_seconds: float = 0.05
) -> None:
    """Ask `condition` until it holds.

    Raises:
        TimeoutError: it did not within `deadline_seconds`; the message names `what`.
    """
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {deadline_seconds:g} s still not: {what}")
        time.sleep(interval_seconds)
