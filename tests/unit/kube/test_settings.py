"""Flags and environment of the operator."""

from __future__ import annotations

import pytest

from rowlock_operator.kube.settings import parse_settings

URL = "--coordinator-url=http://op:8480"


def test_flags_win_over_the_environment_and_that_over_defaults() -> None:
    environ = {"ROWLOCK_WORKERS": "4", "ROWLOCK_RESYNC_SECONDS": "60", "ROWLOCK_NAMESPACES": "a, b,a"}
    settings = parse_settings([URL, "--workers=2"], environ)
    assert (settings.workers, settings.resync_seconds) == (2, 60.0)
    assert settings.namespaces == ("a", "b")
    assert settings.coordinator_port == 8480
    assert parse_settings([URL, "--namespace=c"], environ).namespaces == ("c",)
    assert parse_settings([URL], {}).namespaces == ()


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--workers=0", "must be a number from 1 to 256"),
        ("--coordinator-port=70000", "must be a port from 0 to 65535"),
        ("--resync-seconds=soon", "must be a number of seconds from 1 to 86400"),
        ("--log-level=loud", "invalid choice"),
    ],
)
def test_senseless_values_are_named(flag: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings([URL, flag], {})
    assert words in capsys.readouterr().err


def test_a_missing_url_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings([], {})
    assert "ROWLOCK_COORDINATOR_URL" in capsys.readouterr().err
