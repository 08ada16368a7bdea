"""The crew's store is on a port that the system chose, and only where it must be."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest

from rowlock_trainer.engine.store import join_store, open_store, parse_endpoint

TIMEOUT = timedelta(seconds=30)


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1"])
def test_a_value_set_by_one_is_read_by_another(address: str) -> None:
    store, endpoint = open_store(address, TIMEOUT)
    joined = join_store(endpoint, TIMEOUT)
    store.set("key", "value")
    assert joined.get("key") == b"value"


def test_two_stores_have_two_ports() -> None:
    first, second = (open_store("127.0.0.1", TIMEOUT) for _ in range(2))
    assert first[1] != second[1]


def test_a_store_on_the_loopback_is_not_reached_from_elsewhere() -> None:
    opened, endpoint = open_store("127.0.0.1", TIMEOUT)
    _, port = parse_endpoint(endpoint)
    # Any address of 127/8 is this machine; one that listens on all addresses would answer on each.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=10)
    del opened


@pytest.mark.parametrize(
    ("endpoint", "parsed"),
    [("10.0.0.1:80", ("10.0.0.1", 80)), ("[::1]:80", ("::1", 80)), ("job-0.job.ns:65535", ("job-0.job.ns", 65535))],
)
def test_endpoints_are_taken_apart(endpoint: str, parsed: tuple[str, int]) -> None:
    assert parse_endpoint(endpoint) == parsed


@pytest.mark.parametrize("endpoint", ["", "host", ":80", "host:", "host:port", "host:65536", "host:-1"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        parse_endpoint(endpoint)
