"""How the operator proves who it is: a kubeconfig outside of a cluster, the pod's service account inside.

The client and kopf's watch must agree on both, and both must live with tokens that expire: the kubelet writes a new
one into the same file when a fifth of the old one's time is left (an hour, by default). The client reads the file for
every request, a few microseconds on a tmpfs, instead of trusting a copy and a clock. kopf keeps what it is given, so it
is given it with an end, after which it asks again; it also asks again when the API server answers 401.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import kopf
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

#: Where the kubelet mounts it; the path is part of Kubernetes' API.
DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: kopf's copy of a token is used for at least this long, in seconds, and at most for twice as long: well within the
#: twelve minutes between a new token and the end of the one before.
KEPT_SECONDS = 300


@dataclass(frozen=True)
class ServiceAccount:
    """The service account of the pod that this process runs in."""

    directory: Path = DIRECTORY

    @property
    def exists(self) -> bool:
        """Whether this process has one."""
        return self._token_file.is_file()

    def token(self) -> str:
        """Return the token of now. Raises OSError when there is none, ConfigException when it is empty."""
        token = self._token_file.read_text(encoding="ascii").strip()
        if not token:
            raise ConfigException(f"{self._token_file} is empty.")
        return token

    def namespace(self) -> str:
        """Return the namespace the pod is in. Raises ConfigException outside of a pod."""
        try:
            return (self.directory / "namespace").read_text(encoding="ascii").strip()
        except OSError as error:
            raise ConfigException(f"{error.filename}: {error.strerror}.") from error

    def configuration(self) -> Configuration:
        """Return how to reach the API server. Raises ConfigException outside of a pod."""
        configuration = Configuration()
        loader = InClusterConfigLoader(  # type: ignore[no-untyped-call]
            token_filename=str(self._token_file),
            cert_filename=str(self.directory / "ca.crt"),
            try_refresh_token=False,
        )
        loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
        configuration.refresh_api_key_hook = self._refresh  # type: ignore[assignment]  # declared as None there
        return configuration

    def login(self) -> kopf.ConnectionInfo:
        """Return the same for kopf, which would else look the API server up by name and so need the cluster's DNS."""
        configuration = self.configuration()
        # On a grid, so that a token which is refused is the same to kopf when it asks again: it then waits.
        end = (time.time() // KEPT_SECONDS + 2) * KEPT_SECONDS
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            token=self.token(),
            expiration=datetime.fromtimestamp(end, UTC),
        )

    @property
    def _token_file(self) -> Path:
        return self.directory / "token"

    def _refresh(self, configuration: Configuration) -> None:
        configuration.api_key["BearerToken"] = f"Bearer {self.token()}"


async def load_configuration(kubeconfig: Path | None, account: ServiceAccount | None = None) -> Configuration:
    """Return how to reach the API server: from a file, else from the pod's service account.

    Raises:
        ConfigException: There is neither, or it does not say how.
    """
    if kubeconfig is None:
        return (account or ServiceAccount()).configuration()
    configuration = Configuration()
    await kube_config.load_kube_config(  # type: ignore[no-untyped-call]
        str(kubeconfig), client_configuration=configuration, persist_config=False
    )
    return configuration
