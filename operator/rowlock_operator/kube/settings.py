"""What the operator is told when it is started: flags, and an environment variable for each."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

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


def parse_settings(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings; exits with usage in words when they make no sense."""
    parser = _parser(environ)
    given = parser.parse_args(arguments)
    namespaces = given.namespace or [part.strip() for part in environ.get("ROWLOCK_NAMESPACES", "").split(",")]
    if not given.coordinator_url:
        parser.error("--coordinator-url (ROWLOCK_COORDINATOR_URL) is needed: the URL at which pods reach this operator")
    return Settings(
        namespaces=tuple(dict.fromkeys(name for name in namespaces if name)),
        coordinator_host=given.coordinator_host,
        coordinator_port=given.coordinator_port,
        coordinator_url=given.coordinator_url,
        probes_host=given.probes_host,
        probes_port=given.probes_port,
        log_level=given.log_level,
        log_format=cast("Format", given.log_format),
        resync_seconds=given.resync_seconds,
        workers=given.workers,
        kubeconfig=Path(given.kubeconfig) if given.kubeconfig else None,
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
        )

    parser.add_argument(
        "--namespace", action="append", help="serve this namespace; may be repeated [ROWLOCK_NAMESPACES; default: all]"
    )
    flag("coordinator-host", str, "0.0.0.0", "address the coordinator listens on")  # noqa: S104 (pods reach it)
    flag("coordinator-port", _port, COORDINATOR_PORT, "port the coordinator listens on")
    flag("coordinator-url", str, "", "URL at which pods reach the coordinator; {port} is the port bound")
    flag("probes-host", str, "0.0.0.0", "address of /healthz, /readyz and /metrics")  # noqa: S104 (kubelet reaches it)
    flag("probes-port", _port, PROBES_PORT, "port of /healthz, /readyz and /metrics")
    flag("log-level", str, "info", "least level logged", ("debug", "info", "warning", "error"))
    flag("log-format", str, "text", "form of the log", ("text", "json"))
    flag("resync-seconds", _seconds, RESYNC_SECONDS, "seconds between two full lists")
    flag("workers", _whole, WORKERS, "jobs looked at side by side")
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


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 1 to 86400, got {text!r}")
    return seconds
