"""The crew's rendezvous store: rank 0 opens it, on a port the system chose, and the others join it.

No port is guessed: rank 0 binds port 0, hands the listening socket to torch and reports where it listens.
The store has no authentication of its own, so it listens no wider than it must: on the worker's own address
where that is known as a number (a laptop's is the loopback), else on all, behind the job's network policy.
"""

from __future__ import annotations

import ipaddress
import socket
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not in its stub's exports

#: Peers of a thousand ranks that knock in the same moment wait in this queue; the kernel caps it.
_BACKLOG = 4096


def open_store(address: str, timeout: timedelta) -> tuple[TCPStore, str]:
    """Open the store in this process.

    Args:
        address: Host name or IP under which other workers reach this one.
        timeout: Longest wait for a key.

    Returns:
        The store, and ``host:port`` for the others; an IPv6 host is in brackets.

    Raises:
        OSError: No socket can be bound.
    """
    listener, own = _listen(address)
    port = listener.getsockname()[1]
    # torch takes the descriptor over and closes it.
    store = TCPStore(
        own, port, is_master=True, wait_for_workers=False, timeout=timeout, master_listen_fd=listener.detach()
    )
    return store, format_endpoint(address, port)


def join_store(endpoint: str, timeout: timedelta) -> TCPStore:
    """Join the store at ``host:port``. Raises torch.distributed.DistNetworkError when none answers."""
    host, port = parse_endpoint(endpoint)
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timeout)


def format_endpoint(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_endpoint(endpoint: str) -> tuple[str, int]:
    """Return host and port of ``host:port``. Raises `ValueError` when it is none."""
    host, colon, port = endpoint.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 1 << 16):
        raise ValueError(f"store endpoint {endpoint!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _listen(address: str) -> tuple[socket.socket, str]:
    """Return a listening socket and the address under which this very process reaches it."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        # A name. It may not resolve yet, even here, so listen on every address of this worker.
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
            ), "localhost"
        return socket.create_server(("", 0), backlog=_BACKLOG), "localhost"
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    return socket.create_server((address, 0), family=family, backlog=_BACKLOG), address
