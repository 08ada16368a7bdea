"""What the operator is told when it is started: flags, and an environment variable for each."""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rowlock.api.v1alpha1 import DEFAULT_IMAGE
from rowlock_operator.kube.logs import Format

#: Ports below the ephemeral range that no well-known service has.
COORDINATOR_PORT = 8480
PROBES_PORT = 8481
#: Watches tell changes at once; this round only finds what they lost. As long as the API server keeps
#: history by default.
RESYNC_SECONDS = 300.0
#: Jobs looked at side by side. A look is mostly waiting for the API server; more than this many requests
#: in flight gain nothing on one core.
WORKERS = 8
#: What client-go's leader election takes by default, as kube-scheduler and its kind do.
LEASE_SECONDS = 15
#: What the chart calls them when it is installed under its own name.
LEASE_NAME = "rowlock-operator"
SERVICE_NAME = "rowlock-coordinator"


@dataclass(frozen=True)
class ElectionSettings:
    """How this operator stands for election."""

    #: Name of the Lease.
    name: str
    #: Namespace of the Lease and of the coordinator's Service. Empty means the pod's own.
    namespace: str
    lease_seconds: int
    #: Service by which pods reach the coordinator; the leader points it at itself.
    service: str
    #: Address of this pod.
    pod_ip: str


@dataclass(frozen=True)
class Settings:
    """The operator's settings."""

    #: Empty means all.
    namespaces: tuple[str, ...]
    coordinator_host: str
    coordinator_port: int
    #: As pods reach it; ``{port}`` stands for the port bound.
    coordinator_url: str
    probes_host: str
    probes_port: int
    log_level: str
    log_format: Format
    resync_seconds: float
    workers: int
    kubeconfig: Path | None
    #: Image of the init container that copies the launcher into images of the users' own. Empty: none does.
    launcher_image: str
    #: When a node pulls it; empty is Kubernetes' default.
    launcher_image_pull_policy: str
    #: What is pulled for `DEFAULT_IMAGE`.
    trainer_image: str
    #: Each job gets a NetworkPolicy that lets in its own pods only.
    isolate_jobs: bool
    #: None: this is the only operator, and leads.
    election: ElectionSettings | None


def parse_settings(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings; exits with usage in words when they make no sense."""
    parser = _parser(environ)
    given = parser.parse_args(arguments)
    namespaces = given.namespace or [part.strip() for part in environ.get("ROWLOCK_NAMESPACES", "").split(",")]
    if not given.coordinator_url:
        parser.error("--coordinator-url (ROWLOCK_COORDINATOR_URL) is needed: the URL at which pods reach this operator")
    if given.leader_elect and not given.pod_ip:
        parser.error("--leader-elect needs --pod-ip (ROWLOCK_POD_IP): the leader tells launchers its address")
    if given.leader_elect and given.coordinator_port == 0:
        parser.error("--leader-elect needs a --coordinator-port that is known beforehand: pods are told of it, got 0")
    # Pods reach the coordinator and the kubelet the probes at the pod's address, which may be one of IPv6.
    everywhere = "::" if ":" in given.pod_ip else "0.0.0.0"  # noqa: S104
    return Settings(
        namespaces=tuple(dict.fromkeys(name for name in namespaces if name)),
        coordinator_host=given.coordinator_host or everywhere,
        coordinator_port=given.coordinator_port,
        coordinator_url=given.coordinator_url,
        probes_host=given.probes_host or everywhere,
        probes_port=given.probes_port,
        log_level=given.log_level,
        log_format=cast("Format", given.log_format),
        resync_seconds=given.resync_seconds,
        workers=given.workers,
        kubeconfig=Path(given.kubeconfig) if given.kubeconfig else None,
        launcher_image=given.launcher_image,
        launcher_image_pull_policy=given.launcher_image_pull_policy,
        trainer_image=given.trainer_image,
        isolate_jobs=given.isolate_jobs,
        election=_election(given) if given.leader_elect else None,
    )


def _election(given: argparse.Namespace) -> ElectionSettings:
    return ElectionSettings(
        name=given.leader_elect_name,
        namespace=given.leader_elect_namespace,
        lease_seconds=given.leader_elect_lease_seconds,
        service=given.coordinator_service,
        pod_ip=given.pod_ip,
    )


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rowlock-operator", description="Holds crews of training workers in time.", allow_abbrev=False
    )

    def flag(
        name: str, kind: Callable[[str], object], default: object, words: str, choices: Sequence[str] | None = None
    ) -> None:
        variable = "ROWLOCK_" + name.upper().replace("-", "_")
        parser.add_argument(
            f"--{name}",
            type=kind,
            default=environ.get(variable, default),
            choices=choices,
            help=f"{words} [{variable}; default: {default or 'none'}]",
            # A yes-or-no flag may stand alone.
            nargs="?" if kind is _truth else None,
            const=True if kind is _truth else None,
        )

    parser.add_argument(
        "--namespace", action="append", help="serve this namespace; may be repeated [ROWLOCK_NAMESPACES; default: all]"
    )
    flag("coordinator-host", str, "", "address the coordinator listens on; none: all of the family of --pod-ip")
    flag("coordinator-port", _port, COORDINATOR_PORT, "port the coordinator listens on")
    flag("coordinator-url", str, "", "URL at which pods reach the coordinator; {port} is the port bound")
    flag("probes-host", str, "", "address of /healthz, /readyz and /metrics; none: all of the family of --pod-ip")
    flag("probes-port", _port, PROBES_PORT, "port of /healthz, /readyz and /metrics")
    flag("log-level", str, "info", "least level logged", ("debug", "info", "warning", "error"))
    flag("log-format", str, "text", "form of the log", ("text", "json"))
    flag("resync-seconds", _seconds, RESYNC_SECONDS, "seconds between two full lists")
    flag("workers", _whole, WORKERS, "jobs looked at side by side")
    flag("launcher-image", str, "", "this operator's own image: its launcher is copied into images without Rowlock")
    words = "when a node pulls it: Always, IfNotPresent or Never; none: Kubernetes' default"
    flag("launcher-image-pull-policy", _pull_policy, "", words)
    flag("trainer-image", str, DEFAULT_IMAGE, "what is pulled for the release's trainer image, such as a mirror's")
    words = "let only pods of the same job reach a job's pods, by a NetworkPolicy; not those with hostNetwork"
    flag("isolate-jobs", _truth, "", words)
    flag("leader-elect", _truth, "", "several operators run, and the one that holds the lease leads")
    flag("leader-elect-name", str, LEASE_NAME, "name of the Lease")
    flag("leader-elect-namespace", str, "", "namespace of Lease and coordinator Service, if not the pod's own")
    flag("leader-elect-lease-seconds", _lease, LEASE_SECONDS, "seconds until a silent leader is replaced")
    flag("coordinator-service", str, SERVICE_NAME, "Service that leads pods to the leader, without a selector")
    flag("pod-ip", _address, "", "address of this pod")
    parser.add_argument(
        "--kubeconfig",
        default=environ.get("KUBECONFIG", ""),
        help="how to reach the API server [KUBECONFIG; default: the pod's service account]",
    )
    return parser


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"must be a port from 0 to 65535 (0: any free one), got {text!r}")
    return int(text)


def _whole(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 256):
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 256, got {text!r}")
    return int(text)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", ""):
        raise argparse.ArgumentTypeError(f"must be true or false, got {text!r}")
    return text.lower() == "true"


def _pull_policy(text: str) -> str:
    if text not in ("", "Always", "IfNotPresent", "Never"):
        raise argparse.ArgumentTypeError(f"must be Always, IfNotPresent or Never, got {text!r}")
    return text


def _lease(text: str) -> int:
    if not (text.isdecimal() and 3 <= int(text) <= 300):
        raise argparse.ArgumentTypeError(f"must be a whole number of seconds from 3 to 300, got {text!r}")
    return int(text)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an IP address, got {text!r}") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 1 to 86400, got {text!r}")
    return seconds
