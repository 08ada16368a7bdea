"""What a launcher is told by its environment, checked before anything is started.

A worker that cannot run as it is written ends at once with `ExitCode.CONFIG` and one line that says which
variable is wrong, because another try would end the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rowlock import protocol
from rowlock.protocol import ProtocolError, WorkerConfig


class SettingsError(ValueError):
    """A variable of the environment is missing or wrong; the message names it and the way out."""


@dataclass(frozen=True)
class Settings:
    """A launcher's environment."""

    config: WorkerConfig
    #: WebSocket address of this worker at the coordinator.
    url: str
    token_file: Path
    pod_uid: str
    #: Host name or address under which the other workers reach this one.
    address: str
    #: Fault to inject, see rowlock.protocol.ENV_FAULT.
    fault: str = ""

    def token(self) -> str:
        """Read the job's token; read anew each time, because it may be replaced while the worker runs.

        Raises:
            SettingsError: The file cannot be read or is empty.
        """
        try:
            token = self.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it holds characters that no token has"
            raise SettingsError(
                f"{protocol.ENV_TOKEN_FILE}={self.token_file}: cannot be read: {reason}. "
                "The operator mounts the job's Secret there"
            ) from error
        if not token:
            raise SettingsError(f"{protocol.ENV_TOKEN_FILE}={self.token_file}: the file is empty")
        return token


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings that `environ` holds.

    Raises:
        SettingsError: A variable is missing or wrong.
    """
    config = _config(_required(environ, protocol.ENV_CONFIG))
    settings = Settings(
        config=config,
        url=_url(_required(environ, protocol.ENV_COORDINATOR), config),
        token_file=Path(_required(environ, protocol.ENV_TOKEN_FILE)),
        pod_uid=_required(environ, protocol.ENV_POD_UID),
        address=_required(environ, protocol.ENV_ADDRESS),
        fault=environ.get(protocol.ENV_FAULT, ""),
    )
    settings.token()
    return settings


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name} is not set. A worker is started by the operator or by `rowlock run`")
    return value


def _config(text: str) -> WorkerConfig:
    try:
        config = protocol.decode(text, WorkerConfig)
    except ProtocolError as error:
        raise SettingsError(f"{protocol.ENV_CONFIG}: {error}. Use images of one release") from error
    if (config.trainer is None) == (not config.command):
        raise SettingsError(f"{protocol.ENV_CONFIG}: exactly one of trainer and command must be set")
    if not 0 <= config.worker < config.workers:
        raise SettingsError(f"{protocol.ENV_CONFIG}: worker {config.worker} is not among {config.workers} workers")
    if config.processes_per_worker < 1:
        raise SettingsError(
            f"{protocol.ENV_CONFIG}: processes_per_worker is {config.processes_per_worker}, must be at least 1"
        )
    return config


def _url(coordinator: str, config: WorkerConfig) -> str:
    scheme = {"http": "ws", "https": "wss"}.get(urlsplit(coordinator).scheme)
    if scheme is None or not urlsplit(coordinator).netloc:
        raise SettingsError(f"{protocol.ENV_COORDINATOR}={coordinator!r}: must read http://host:port")
    base = urlsplit(coordinator)._replace(scheme=scheme).geturl().rstrip("/")
    return f"{base}/v1alpha1/jobs/{config.namespace}/{config.job}/workers/{config.worker}"
