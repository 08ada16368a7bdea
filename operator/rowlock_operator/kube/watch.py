"""kopf's part: it watches, and every event goes straight to the feed.

Only `on.event` is used: it writes nothing to the objects. kopf runs on a thread and an event loop of its
own, because it takes every task of its loop for its own and ends them when a watch fails for good; here
such an end means no more than starting it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kopf

from rowlock_operator.kube.backoff import LONGEST_DELAY, EndlessBackoffs, delay_after
from rowlock_operator.kube.credentials import ServiceAccount
from rowlock_operator.kube.resources import CLAIMS, JOBS, PODS, SERVICES, Resource
from rowlock_operator.resources.names import SELECTOR

Json = dict[str, Any]
Heard = Callable[[Resource, str | None, Json], None]

#: Time one of kopf's short requests may take, in seconds; as the client's own.
REQUEST_SECONDS = 30.0
#: How long the thread gets to end, in seconds: kopf cancels its streams at once.
STOP_SECONDS = 5.0

log = logging.getLogger("rowlock.watch")


class Watch:
    """Watches jobs, and pods, services and claims that carry this operator's labels.

    Args:
        heard: Called on the loop that `start` was called on, with each event's resource, type (None for
            an object of the first list) and object.
        namespaces: Namespaces to watch; none means all.
        kubeconfig: How to reach the API server; None means the pod's service account.
        account: The pod's service account.
    """

    def __init__(
        self,
        heard: Heard,
        *,
        namespaces: tuple[str, ...],
        kubeconfig: Path | None,
        account: ServiceAccount | None = None,
    ) -> None:
        self._heard = heard
        self._namespaces = namespaces
        self._kubeconfig = kubeconfig
        self._account = account or ServiceAccount()
        self._stopping = threading.Event()
        #: The running kopf's loop and flag. A flag of its own loop: one of threads it would wait for on a thread that
        #: nobody wakes when kopf ends by itself, and for which its loop then waits when it closes.
        self._kopf: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether somebody watches, or is about to again."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to watch."""
        self._loop = asyncio.get_running_loop()
        if self._kubeconfig is not None:
            # kopf's own login reads it from there.
            os.environ["KUBECONFIG"] = str(self._kubeconfig)
        self._thread.start()

    async def stop(self) -> None:
        """End the watch."""
        self._stopping.set()
        if self._kopf is not None:
            loop, flag = self._kopf
            with contextlib.suppress(RuntimeError):  # that kopf has ended, and its loop is closed
                loop.call_soon_threadsafe(flag.set)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, STOP_SECONDS)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                asyncio.run(self._watch())
            except Exception as error:  # noqa: BLE001 (whatever ended kopf, watching goes on)
                log.warning("the watch ended: %s", str(error) or type(error).__name__)
            if self._stopping.is_set():
                return
            # One that was well for long begins anew: its end has nothing to do with the ones before.
            failures = 1 if time.monotonic() - started > LONGEST_DELAY else failures + 1
            self._stopping.wait(delay_after(failures))

    async def _watch(self) -> None:
        flag = asyncio.Event()
        self._kopf = asyncio.get_running_loop(), flag
        if self._stopping.is_set():
            return
        await kopf.operator(
            registry=self._registry(),
            settings=_settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=flag,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login if self._kubeconfig is None else kopf.login_with_kubeconfig)
        for resource in (JOBS, PODS, SERVICES, CLAIMS):
            self._subscribe(registry, resource)
        return registry

    async def _login(self, **_: Any) -> kopf.ConnectionInfo:
        return self._account.login()

    def _subscribe(self, registry: kopf.OperatorRegistry, resource: Resource) -> None:
        async def handle(event: Any, **_: Any) -> None:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._heard, resource, event["type"], event["object"])

        kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=resource.plural)(handle)


class _NoMemory(kopf.DiffBaseStorage):
    """Keeps nothing of an object's last state.

    kopf prepares to compare objects with their last state even where no handler asks for it; on every
    event that is a deep copy of the whole object.
    """

    def build(self, *, body: kopf.Body, **_: Any) -> kopf.BodyEssence:
        """Return nothing to compare."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Return that nothing was kept."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing."""


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    # What is served is known; finding out would need the right to watch namespaces and definitions.
    settings.scanning.disabled = True
    settings.networking.request_timeout = REQUEST_SECONDS
    settings.networking.error_backoffs = EndlessBackoffs()
    settings.persistence.diffbase_storage = _NoMemory()
    settings.process.ultimate_exiting_timeout = None
    for resource in (PODS, SERVICES, CLAIMS):
        key = (resource.group, resource.version, resource.plural)
        settings.watching.label_selectors[key] = SELECTOR
    return settings
