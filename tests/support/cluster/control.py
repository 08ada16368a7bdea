"""The control plane: etcd, API server, controller manager and scheduler, as processes of the machine itself.

Pod Security admission is on as it is by default, every request is in the audit log, and a node that falls
silent is noticed in 16 s instead of 50: tests of dead nodes wait for it.
"""

from __future__ import annotations

import ssl
import urllib.request
from typing import TYPE_CHECKING

import yaml

from tests.support.cluster.credentials import URL, kubeconfig_of
from tests.support.cluster.daemons import Daemon
from tests.support.cluster.layout import API_PORT, HOST, SERVICE_NETWORK, Layout

if TYPE_CHECKING:
    from tests.support.cluster.programs import Programs

#: Start takes 4 to 6 s on two idle cores; a loaded machine gets twenty times that.
START_SECONDS = 120.0
NODE_GRACE_SECONDS = 16
_LOOPBACK = "127.0.0.1"
#: Behind certificates: what is in etcd is everything, and anybody on this machine could reach its port.
_ETCD = f"https://{_LOOPBACK}:2379"
_ETCD_PEER = f"https://{_LOOPBACK}:2380"
#: For health alone.
_ETCD_HEALTH = f"http://{_LOOPBACK}:2381"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    # Metadata alone: no body, so no Secret, is ever written there.
    "rules": [{"level": "Metadata"}],
}


class Control:
    """The four processes."""

    def __init__(self, layout: Layout, programs: Programs) -> None:
        self._layout = layout
        self._programs = programs
        self.etcd, self.apiserver, self.controllers, self.scheduler = (
            daemon(layout, name) for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
        )

    def start(self) -> None:
        """Start all four and wait until each is ready."""
        self._start_etcd()
        self.start_apiserver()
        self._start_controllers()
        self._start_scheduler()

    def stop(self) -> None:
        """Kill all four."""
        for one in (self.scheduler, self.controllers, self.apiserver, self.etcd):
            one.kill()

    def start_apiserver(self) -> None:
        """Start the API server and wait until it is ready."""
        layout, keys = self._layout, self._layout.credentials
        policy = keys / "audit-policy.yaml"
        policy.write_text(yaml.safe_dump(AUDIT_POLICY))
        flags = (
            f"--etcd-servers={_ETCD}",
            f"--etcd-cafile={keys / 'ca.crt'}",
            f"--etcd-certfile={keys / 'etcd.crt'}",
            f"--etcd-keyfile={keys / 'etcd.key'}",
            f"--bind-address={HOST}",
            f"--advertise-address={HOST}",
            f"--secure-port={API_PORT}",
            f"--tls-cert-file={keys / 'apiserver.crt'}",
            f"--tls-private-key-file={keys / 'apiserver.key'}",
            f"--token-auth-file={keys / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-account-key-file={keys / 'accounts.pub'}",
            f"--service-account-signing-key-file={keys / 'accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            f"--kubelet-client-certificate={keys / 'kubelet-client.crt'}",
            f"--kubelet-client-key={keys / 'kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={layout.audit_log}",
            # Written before the answer is given, so that a test that has the answer finds the line.
            "--audit-log-mode=blocking",
            # In one file however large: tests read it from its beginning.
            "--audit-log-maxsize=0",
            "--allow-privileged=true",
        )
        self.apiserver.start([self._programs.kubernetes["kube-apiserver"], *flags], listens=[(HOST, API_PORT)])
        authority = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        self.apiserver.await_ready(lambda: answers(f"{URL}/readyz", authority), START_SECONDS)

    def _start_etcd(self) -> None:
        keys = self._layout.credentials
        identity = (
            f"cert-file={keys / 'etcd.crt'}",
            f"key-file={keys / 'etcd.key'}",
            f"trusted-ca-file={keys / 'ca.crt'}",
        )
        flags = (
            f"--data-dir={self._layout.state / 'etcd'}",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            f"--listen-peer-urls={_ETCD_PEER}",
            f"--initial-advertise-peer-urls={_ETCD_PEER}",
            f"--initial-cluster=default={_ETCD_PEER}",
            f"--listen-metrics-urls={_ETCD_HEALTH}",
            *(f"--{one}" for one in identity),
            *(f"--peer-{one}" for one in identity),
            "--client-cert-auth",
            "--peer-client-cert-auth",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        ports = [(_LOOPBACK, port) for port in (2379, 2380, 2381)]
        self.etcd.start([self._programs.etcd, *flags], listens=ports)
        self.etcd.await_ready(lambda: answers(f"{_ETCD_HEALTH}/health"), START_SECONDS)

    def _start_controllers(self) -> None:
        keys = self._layout.credentials
        flags = (
            f"--kubeconfig={kubeconfig_of(self._layout, 'system:kube-controller-manager')}",
            f"--root-ca-file={keys / 'ca.crt'}",
            f"--service-account-private-key-file={keys / 'accounts.key'}",
            "--use-service-account-credentials=true",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            f"--node-monitor-grace-period={NODE_GRACE_SECONDS}s",
        )
        words = [self._programs.kubernetes["kube-controller-manager"], *flags]
        self.controllers.start(words, listens=[(_LOOPBACK, 10257)])
        self.controllers.await_ready(lambda: answers("https://127.0.0.1:10257/healthz", _UNVERIFIED), START_SECONDS)

    def _start_scheduler(self) -> None:
        flags = (
            f"--kubeconfig={kubeconfig_of(self._layout, 'system:kube-scheduler')}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        )
        self.scheduler.start([self._programs.kubernetes["kube-scheduler"], *flags], listens=[(_LOOPBACK, 10259)])
        self.scheduler.await_ready(lambda: answers("https://127.0.0.1:10259/healthz", _UNVERIFIED), START_SECONDS)


def daemon(layout: Layout, name: str) -> Daemon:
    """Return the process of the cluster called `name`."""
    return Daemon(name, layout.run / "processes" / f"{name}.json", layout.logs / f"{name}.log")


def answers(url: str, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a health check at `url` says yes."""
    try:
        with urllib.request.urlopen(url, context=tls, timeout=5) as response:  # noqa: S310 - ours, http or https
            return bool(response.status == 200)
    except OSError:  # not listening yet, or listening and not ready (HTTPError is an OSError)
        return False


#: For health on loopback, behind a certificate that its program has just made for itself.
_UNVERIFIED = ssl.create_default_context()
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE
