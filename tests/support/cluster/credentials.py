"""Who is who in the cluster: one authority, the API server's certificate, and a token for everybody else.

Tokens instead of a client certificate each: the authorizer sees the same user and groups, and there is
one list to read.
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

import yaml

from tests.support.cluster.layout import API_PORT, API_SERVICE, DOMAIN, HOST, Layout, NodeNames
from tests.support.cluster.network import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

URL = f"https://{HOST}:{API_PORT}"
_MASTERS = "system:masters"
#: Components of the control plane and their groups, by the user they are.
_USERS = {
    "kubernetes-admin": _MASTERS,
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "system:kube-proxy": "",
    # What a production cluster installs with roles of its own; here they belong to the machine.
    "rowlock:coredns": _MASTERS,
    "rowlock:provisioner": _MASTERS,
    "rowlock:isolation": _MASTERS,
}


def issue(layout: Layout, nodes: Sequence[NodeNames]) -> None:
    """Write keys, certificates, tokens and kubeconfigs."""
    layout.credentials.mkdir(parents=True, mode=0o700)
    _authority(layout)
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]
    alternatives = [f"IP:{HOST}", f"IP:{API_SERVICE}", "IP:127.0.0.1", *(f"DNS:{name}" for name in names)]
    _certificate(layout, "apiserver", "/CN=kube-apiserver", f"subjectAltName={','.join(alternatives)}", "serverAuth")
    _certificate(layout, "etcd", "/CN=etcd", "subjectAltName=IP:127.0.0.1", "serverAuth,clientAuth")
    _certificate(layout, "kubelet-client", "/O=system:masters/CN=kube-apiserver", None, "clientAuth")
    run("openssl", "genrsa", "-out", layout.credentials / "accounts.key", "2048")
    public = layout.credentials / "accounts.pub"
    run("openssl", "rsa", "-in", layout.credentials / "accounts.key", "-pubout", "-out", public)
    _tokens(layout, _USERS | {f"system:node:{node.name}": "system:nodes" for node in nodes})


def kubeconfig_of(layout: Layout, user: str) -> Path:
    """Return the kubeconfig of one of the users."""
    return layout.credentials / f"{user.replace(':', '-')}.kubeconfig"


def token_of(layout: Layout, user: str) -> str:
    """Return the token of one of the users."""
    config = yaml.safe_load(kubeconfig_of(layout, user).read_text())
    return str(config["users"][0]["user"]["token"])


def _authority(layout: Layout) -> None:
    folder = layout.credentials
    _openssl_request(folder / "ca.key", folder / "ca.crt", "/CN=rowlock-cluster", ["-x509", "-days", "30"], [
        "basicConstraints=critical,CA:TRUE", "keyUsage=critical,digitalSignature,keyCertSign,cRLSign",
    ])  # fmt: skip


def _certificate(layout: Layout, name: str, subject: str, extension: str | None, usage: str) -> None:
    folder = layout.credentials
    request = folder / f"{name}.csr"
    extensions = [f"extendedKeyUsage={usage}", *([extension] if extension else [])]
    _openssl_request(folder / f"{name}.key", request, subject, [], extensions)
    run(
        "openssl", "x509", "-req", "-in", request, "-out", folder / f"{name}.crt", "-days", "30",
        "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial", "-copy_extensions", "copy",
    )  # fmt: skip


def _openssl_request(key: Path, out: Path, subject: str, words: list[str], extensions: list[str]) -> None:
    added = [word for extension in extensions for word in ("-addext", extension)]
    run(
        "openssl", "req", *words, "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-subj", subject, *added, "-keyout", key, "-out", out,
    )  # fmt: skip


def _tokens(layout: Layout, users: dict[str, str]) -> None:
    lines = []
    for user, group in users.items():
        token = secrets.token_hex(16)
        lines.append(f'{token},{user},{user},"{group}"\n')
        write_kubeconfig(kubeconfig_of(layout, user), layout, {"token": token})
    _write_private(layout.credentials / "tokens.csv", "".join(lines))
    layout.kubeconfig.unlink(missing_ok=True)
    _write_private(layout.kubeconfig, kubeconfig_of(layout, "kubernetes-admin").read_text())


def write_kubeconfig(path: Path, layout: Layout, user: dict[str, str]) -> None:
    """Write a kubeconfig of the cluster for a user with these credentials."""
    authority = base64.b64encode((layout.credentials / "ca.crt").read_bytes()).decode()
    cluster = {"server": URL, "certificate-authority-data": authority}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "rowlock",
        "clusters": [{"name": "rowlock", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "rowlock", "context": {"cluster": "rowlock", "user": "user", "namespace": "default"}}],
    }
    _write_private(path, yaml.safe_dump(config))


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
