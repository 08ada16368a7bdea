"""The port a command's store is given."""

from __future__ import annotations

import socket

from rowlock_trainer.launcher import torchrun
from rowlock_trainer.launcher.torchrun import choose_master_port


def test_a_port_in_use_is_not_chosen(monkeypatch):
    with socket.socket() as taken, socket.socket() as probe:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        probe.bind(("", 0))
        monkeypatch.setattr(torchrun, "_LOWEST", port)
        monkeypatch.setattr(torchrun, "_HIGHEST", port)
        monkeypatch.setattr(torchrun, "_ephemeral_range", lambda: (1, 2))
        assert choose_master_port() != port


def test_with_nothing_outside_the_ephemeral_range_a_free_port_is_chosen_all_the_same(monkeypatch):
    monkeypatch.setattr(torchrun, "_ephemeral_range", lambda: (1024, 65535))
    with socket.socket() as bound:
        bound.bind(("", choose_master_port()))
