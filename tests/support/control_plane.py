"""A real Kubernetes control plane on loopback, for what only an API server can decide.

etcd, kube-apiserver and a kube-controller-manager with the few controllers the tests depend on: the garbage
collector, namespaces, quotas and claim protection. No scheduler and no kubelet: a test plays those by writing
pod status. It is up in a few seconds; durability is given up for that (etcd does not fsync).

`python -m tests.support.control_plane build` only makes sure that the programs are there;
`python -m tests.support.control_plane run` starts one with the CRD, for kubectl by hand, until interrupted.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import random
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.support.binaries import Binaries, BinariesError, find_or_build, say
from tests.support.kube_api import KubeApi, wait_until
from tests.support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tests.support.kube_api import JsonObject

CRD_PATH = Path(__file__).parents[2] / "crds" / "rowlock.dev_distributedtrainingjobs.yaml"
CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "persistentvolumeclaim-protection-controller",
    "resourcequota-controller",
)
#: Below Linux's default ephemeral range (32768 up), so that no outgoing connection takes a port between two
#: runs of the API server; above the ranges where well-known services listen.
PORTS = range(20_000, 30_000)
#: Start takes 4 to 6 s on two idle cores; a loaded CI machine gets twenty times that.
START_DEADLINE_SECONDS = 120.0
_PREFIX = "rowlock-control-plane-"


class ControlPlane:
    """A running control plane; a context manager that leaves nothing behind."""

    def __init__(self, binaries: Binaries, directory: Path) -> None:
        self.binaries = binaries
        self.directory = directory
        self.kubectl_path = binaries.kubectl
        self.kubeconfig = directory / "kubeconfig"
        self._token = secrets.token_hex(16)
        self._certificate, self._key = directory / "tls.crt", directory / "tls.key"
        ports, self._marks = _free_ports(4)
        self._etcd_port, self._peer_port, self._port, self._controllers_port = ports
        self.url = f"https://127.0.0.1:{self._port}"
        self._etcd: Child | None = None
        self._apiserver: Child | None = None
        self._controllers: Child | None = None
        # Held while the plane lives; the next start sweeps folders whose lock is free.
        self._lock = (directory / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @classmethod
    def start(cls, manifests: Sequence[Path] = ()) -> ControlPlane:
        """Start one, with the objects of `manifests` created before the controllers look around.

        The garbage collector learns of new kinds every 30 s only; a CRD given here it knows from the start.

        Raises:
            BinariesError: there are no programs to start.
            RuntimeError: a program ended, with the end of its log.
            TimeoutError: a program did not get ready.
        """
        binaries = find_or_build()
        _sweep()
        plane = cls(binaries, Path(tempfile.mkdtemp(prefix=_PREFIX)))
        try:
            plane._write_credentials()
            plane._start_etcd()
            plane.start_apiserver()
            for path in manifests:
                plane.apply(path)
            plane.start_controllers()
        except BaseException:
            plane.stop()
            raise
        return plane

    def __enter__(self) -> ControlPlane:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End all of it and remove its folder."""
        for child in (self._controllers, self._apiserver, self._etcd):
            if child is not None:
                child.kill()  # nothing of it is wanted any more, and a clean stop takes seconds
        for mark in self._marks:
            mark.close()
        self._lock.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- for tests --------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """Bearer token of the admin."""
        return self._token

    @property
    def authority(self) -> Path:
        """Certificate that the API server is verified with."""
        return self._certificate

    def client(self, *, keep: bool = False) -> KubeApi:
        """A plain client with the admin's rights; with `keep` it keeps its connections."""
        return KubeApi(self.url, self._token, self._certificate, keep=keep)

    def kubectl(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the real kubectl; the caller judges its exit code."""
        command = [str(self.kubectl_path), f"--kubeconfig={self.kubeconfig}", *words]
        # A home of its own: kubectl caches discovery there, and a cache would outlive this API server.
        environment = {**os.environ, "HOME": str(self.directory)}
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env=environment)

    def apply(self, manifest: Path) -> None:
        """Create the objects of a file and, for a CRD, wait until its resource is served."""
        api = self.client()
        for document in yaml.safe_load_all(manifest.read_text()):
            if document["kind"] != "CustomResourceDefinition":
                raise ValueError(f"{manifest}: only CustomResourceDefinitions are expected, got {document['kind']}")
            definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            api.create(definitions, document, fieldValidation="Strict").ok()
            _wait_established(api, f"{definitions}/{document['metadata']['name']}", document["spec"])

    def stop_apiserver(self) -> None:
        """Kill the API server, as a crash would; etcd and its data stay."""
        if self._apiserver is not None:
            self._apiserver.kill()
            self._apiserver = None

    def start_apiserver(self) -> None:
        """Start the API server on the port it always had, and wait until it is ready."""
        if self._apiserver is not None:
            raise RuntimeError("the API server runs already")
        self._apiserver = self._start("kube-apiserver", self.binaries.apiserver, self._apiserver_flags())
        self._await_answer(self._apiserver, f"{self.url}/readyz")

    def restart_apiserver(self) -> None:
        """Kill it and start it anew: every connection and watch to it breaks."""
        self.stop_apiserver()
        self.start_apiserver()

    def start_controllers(self) -> None:
        """Start the controller manager and wait until it is healthy."""
        flags = (
            f"--kubeconfig={self.kubeconfig}",
            f"--secure-port={self._controllers_port}",
            "--bind-address=127.0.0.1",
            f"--tls-cert-file={self._certificate}",
            f"--tls-private-key-file={self._key}",
            f"--controllers={','.join(CONTROLLERS)}",
            "--leader-elect=false",
        )
        program = self.binaries.controller_manager
        self._controllers = self._start("kube-controller-manager", program, flags)
        self._await_answer(self._controllers, f"https://127.0.0.1:{self._controllers_port}/healthz")

    def compact(self) -> int:
        """Forget all history in etcd, and return the revision of now.

        A list or watch from etcd that goes on from an older revision gets 410 Gone. The API server's watch
        cache may still serve it; after `restart_apiserver` it no longer does.
        """
        header = self._etcd_call("kv/range", {"key": base64.b64encode(b"\0").decode()})["header"]
        revision = int(header["revision"])
        self._etcd_call("kv/compaction", {"revision": revision, "physical": True})
        return revision

    # --- parts ------------------------------------------------------------------------------------

    def _start(self, name: str, program: Path, flags: Sequence[str]) -> Child:
        return Child.start(name, [program, *flags], self.directory / f"{name}.log")

    def _start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._peer_port))
        flags = (
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        self._etcd = self._start("etcd", self.binaries.etcd, flags)
        self._await_answer(self._etcd, f"{client}/health")

    def _apiserver_flags(self) -> Sequence[str]:
        return (
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--etcd-compaction-interval=0",  # only `compact` compacts
            "--bind-address=127.0.0.1",
            # Its own Service would need an address that is not loopback; nothing here asks for it.
            "--endpoint-reconciler-type=none",
            f"--secure-port={self._port}",
            f"--tls-cert-file={self._certificate}",
            f"--tls-private-key-file={self._key}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--service-account-key-file={self._certificate}",
            f"--service-account-signing-key-file={self._key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            # Pods without a service account controller: nobody would make the accounts this asks for.
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged=true",
        )

    def _write_credentials(self) -> None:
        """A self-signed certificate for loopback, the admin's token, and the kubeconfig that holds both."""
        _self_signed(self._certificate, self._key)
        (self.directory / "tokens.csv").write_text(f'{self._token},admin,admin,"system:masters"\n')
        cluster = {
            "server": self.url,
            "certificate-authority-data": base64.b64encode(self._certificate.read_bytes()).decode(),
        }
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self._token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin", "namespace": "default"}}],
        }
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(yaml.safe_dump(kubeconfig))

    def _await_answer(self, child: Child, url: str) -> None:
        context = ssl.create_default_context(cafile=str(self._certificate))

        # Health is open to everyone on all three; the token is for the API server only.
        def answers() -> bool:
            if not child.running:
                raise RuntimeError(f"{child.name} ended with code {child.process.returncode}:\n{child.tail()}")
            try:
                with urllib.request.urlopen(url, context=context, timeout=5) as response:  # noqa: S310 - loopback
                    return bool(response.status == 200)
            except OSError:  # not listening yet, or listening and not ready (HTTPError is an OSError)
                return False

        try:
            wait_until(answers, START_DEADLINE_SECONDS, f"{child.name} is ready")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{child.tail()}") from None

    def _etcd_call(self, method: str, body: JsonObject) -> JsonObject:
        url = f"http://127.0.0.1:{self._etcd_port}/v3/{method}"
        request = urllib.request.Request(url, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - loopback
            answer = json.load(response)
        assert isinstance(answer, dict)
        return answer


def _wait_established(api: KubeApi, path: str, spec: JsonObject) -> None:
    def established() -> bool:
        conditions = api.get(path).ok().get("status", {}).get("conditions") or []
        return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)

    wait_until(established, 30, f"{path} is established")
    served = [version["name"] for version in spec["versions"] if version["served"]]
    for version in served:
        url = f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"
        # Established comes a moment before the handler.
        wait_until(partial(_served, api, url), 30, f"{url} is served")


def _served(api: KubeApi, url: str) -> bool:
    return api.get(url).status == 200


def _self_signed(certificate: Path, key: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise BinariesError("the API-server tests need the openssl program, for the certificate of their API server")
    command = [
        openssl, "req", "-x509", "-days", "2", "-nodes",
        "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
        "-keyout", str(key), "-out", str(certificate),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BinariesError(f"openssl made no certificate: {done.stderr}")


def _free_ports(count: int) -> tuple[list[int], list[socket.socket]]:
    """Ports nobody listens on, and the marks that keep other planes off them until they are closed.

    The mark is an abstract Unix socket: the kernel lets go of it with the process, and it is seen exactly
    where the port is, in the same network namespace.
    """
    ports: list[int] = []
    marks: list[socket.socket] = []
    for port in random.sample(PORTS, len(PORTS)):
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0{_PREFIX}{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        ports.append(port)
        marks.append(mark)
        if len(ports) == count:
            return ports, marks
    raise RuntimeError(f"no {count} free ports from {PORTS.start} to {PORTS.stop}")


def _sweep() -> None:
    """Remove the folders of planes whose process was killed: their lock is free."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/lock"):
        try:
            with lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # in use, or another user's, or swept by someone else just now
            continue
        shutil.rmtree(lock.parent, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    """`build` makes sure of the programs; `run` holds a control plane until interrupted."""
    if list(arguments) == ["build"]:
        say(f"the control plane is in {find_or_build().apiserver.parent}")
        return 0
    if list(arguments) == ["run"]:
        with ControlPlane.start([CRD_PATH]) as plane:
            say(f"export KUBECONFIG={plane.kubeconfig}\nkubectl is {plane.kubectl_path}; Ctrl-C ends it")
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                say("")
        return 0
    say("usage: python -m tests.support.control_plane build|run")
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BinariesError as error:
        sys.exit(str(error))
