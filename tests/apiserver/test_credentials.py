"""Tokens that run out while the operator runs: what the kubelet renews in a file is what counts.

A token is bound to a Secret here. When the Secret goes the token is refused, after the ten seconds for which the API
server trusts what it looked up; waiting for the shortest token that it gives out would take ten minutes.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rowlock_operator.kube.client import ApiError, Client
from rowlock_operator.kube.credentials import ServiceAccount, load_configuration
from rowlock_operator.kube.metrics import Metrics
from rowlock_operator.kube.permissions import JOB_RULES
from rowlock_operator.kube.resources import JOBS, Resource
from rowlock_operator.kube.watch import Watch
from tests.support.control_plane import CRD_PATH, ControlPlane
from tests.support.operator_world import DEADLINE_SECONDS, job_manifest

ROLES = "/apis/rbac.authorization.k8s.io/v1"
SPACE = "/api/v1/namespaces/default"
JOBS_PATH = "/apis/rowlock.dev/v1alpha1/namespaces/default/distributedtrainingjobs"


class Mount:
    """What the kubelet mounts into a pod: token, certificate and namespace of a service account."""

    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self.account = ServiceAccount(directory)
        self._api = plane.client()
        self._directory = directory
        self._name = f"rotating-{secrets.token_hex(4)}"
        self._bound_to = ""
        self._api.create(f"{SPACE}/serviceaccounts", {"metadata": {"name": self._name}}).ok()
        self._api.create(f"{ROLES}/clusterroles", {"metadata": {"name": self._name}, "rules": list(JOB_RULES)}).ok()
        binding = {
            "metadata": {"name": self._name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": self._name},
            "subjects": [{"kind": "ServiceAccount", "name": self._name, "namespace": "default"}],
        }
        self._api.create(f"{ROLES}/clusterrolebindings", binding).ok()
        (directory / "ca.crt").write_bytes(plane.authority.read_bytes())
        (directory / "namespace").write_text("default")
        self.renew()

    def renew(self) -> None:
        """Put a new token into the file. The one before stays good."""
        self._bound_to = f"binds-{secrets.token_hex(4)}"
        bound = self._api.create(f"{SPACE}/secrets", {"metadata": {"name": self._bound_to}}).ok()
        reference = {"kind": "Secret", "apiVersion": "v1", "name": self._bound_to, "uid": bound["metadata"]["uid"]}
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"boundObjectRef": reference},
        }
        answer = self._api.create(f"{SPACE}/serviceaccounts/{self._name}/token", request).ok()
        (self._directory / "token.new").write_text(answer["status"]["token"])
        (self._directory / "token.new").rename(self._directory / "token")

    def revoke(self) -> None:
        """Have the token that is in the file now refused from now on."""
        self._api.delete(f"{SPACE}/secrets/{self._bound_to}").ok()


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    """A control plane of the test's own: its watches will be broken."""
    with ControlPlane.start([CRD_PATH]) as own:
        yield own


@pytest.fixture
def mount(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mount:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", plane.url.rpartition(":")[2])
    return Mount(plane, tmp_path)


async def until(holds: Callable[[], Any], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not holds():  # noqa: ASYNC110 (what is waited for happens outside of this loop)
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"still not: {what}") from None


async def until_refused(client: Client) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                await client.list(JOBS, "default")
            except ApiError as error:
                if error.status == 401:
                    return
                raise
            await asyncio.sleep(0.2)


def test_the_client_goes_on_with_a_renewed_token_at_once(mount: Mount) -> None:
    async def scenario() -> None:
        async with Client(await load_configuration(None, mount.account), Metrics()) as client:
            await client.list(JOBS, "default")
            mount.revoke()
            await until_refused(client)
            mount.renew()
            await client.list(JOBS, "default")

    asyncio.run(scenario())


def test_the_watch_goes_on_with_a_renewed_token(plane: ControlPlane, mount: Mount) -> None:
    api = plane.client()
    seen: list[str] = []

    def heard(resource: Resource, kind: str | None, body: dict[str, Any]) -> None:
        seen.append(body["metadata"]["name"])

    async def scenario() -> None:
        watch = Watch(heard, namespaces=("default",), kubeconfig=None, account=mount.account)
        watch.start()
        api.create(JOBS_PATH, job_manifest("before")).ok()
        await until(lambda: "before" in seen, "the first job is seen")
        mount.revoke()
        async with Client(await load_configuration(None, mount.account), Metrics()) as client:
            await until_refused(client)
        mount.renew()
        # Streams live on with the token they began with; new ones need the new token.
        await asyncio.to_thread(plane.restart_apiserver)
        api.create(JOBS_PATH, job_manifest("after")).ok()
        await until(lambda: "after" in seen, "a job is seen by a stream that began with the new token")
        await watch.stop()

    asyncio.run(scenario())


def test_the_watch_waits_for_a_token_that_is_good_and_does_not_storm_the_api_server(
    plane: ControlPlane, mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    api = plane.client()
    seen: list[str] = []

    def heard(resource: Resource, kind: str | None, body: dict[str, Any]) -> None:
        seen.append(body["metadata"]["name"])

    async def scenario() -> None:
        mount.revoke()
        async with Client(await load_configuration(None, mount.account), Metrics()) as client:
            await until_refused(client)
        watch = Watch(heard, namespaces=("default",), kubeconfig=None, account=mount.account)
        watch.start()
        await until(lambda: len([one for one in caplog.messages if "the watch ended" in one]) >= 3, "it gives up")
        api.create(JOBS_PATH, job_manifest("patient")).ok()
        mount.renew()
        await until(lambda: "patient" in seen, "the job is seen with the new token")
        await watch.stop()

    asyncio.run(scenario())


def test_the_namespace_is_the_mounts(mount: Mount) -> None:
    assert mount.account.namespace() == "default"
