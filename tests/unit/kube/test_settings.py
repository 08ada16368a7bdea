"""Flags and environment of the operator."""

from __future__ import annotations

import pytest

from rowlock.api.v1alpha1 import DEFAULT_IMAGE
from rowlock_operator.kube.settings import ElectionSettings, parse_settings

URL = "--coordinator-url=http://op:8480"
ALL = "0.0.0.0"  # noqa: S104


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


@pytest.mark.parametrize(
    ("flags", "hosts"),
    [
        ([], (ALL, ALL)),
        (["--pod-ip=10.0.0.7"], (ALL, ALL)),
        (["--pod-ip=fd00::7"], ("::", "::")),  # in a cluster of IPv6 alone nobody has another way in
        (["--pod-ip=fd00::7", "--probes-host=127.0.0.1"], ("::", "127.0.0.1")),
    ],
)
def test_it_listens_where_the_pods_own_address_leads(flags: list[str], hosts: tuple[str, str]) -> None:
    settings = parse_settings([URL, *flags], {})
    assert (settings.coordinator_host, settings.probes_host) == hosts


def test_a_missing_url_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings([], {})
    assert "ROWLOCK_COORDINATOR_URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "environ", "isolated"),
    [
        ([], {}, False),
        (["--isolate-jobs"], {}, True),
        (["--isolate-jobs=false"], {"ROWLOCK_ISOLATE_JOBS": "true"}, False),
        ([], {"ROWLOCK_ISOLATE_JOBS": "true"}, True),
    ],
)
def test_jobs_are_isolated_where_that_is_asked_for(flags: list[str], environ: dict[str, str], isolated: bool) -> None:
    assert parse_settings([URL, *flags], environ).isolate_jobs is isolated


def test_one_operator_alone_stands_for_no_election() -> None:
    settings = parse_settings([URL], {})
    assert settings.election is None
    assert (settings.launcher_image, settings.trainer_image) == ("", DEFAULT_IMAGE)


@pytest.mark.parametrize(
    ("flags", "environ"),
    [
        (["--leader-elect", "--pod-ip=10.0.0.7"], {}),
        (["--leader-elect=true", "--pod-ip", "10.0.0.7"], {"ROWLOCK_LEADER_ELECT": "false"}),
        ([], {"ROWLOCK_LEADER_ELECT": "true", "ROWLOCK_POD_IP": "10.0.0.7"}),
    ],
)
def test_several_operators_elect_one_by_the_names_the_chart_gives(flags: list[str], environ: dict[str, str]) -> None:
    election = parse_settings([URL, *flags], environ).election
    assert election == ElectionSettings("rowlock-operator", "", 15, "rowlock-coordinator", "10.0.0.7")


def test_election_can_be_named_and_timed_otherwise() -> None:
    flags = ["--leader-elect-name=a", "--leader-elect-namespace=b", "--leader-elect-lease-seconds=60"]
    more = ["--coordinator-service=c", "--pod-ip=2001:DB8::1"]
    election = parse_settings([URL, "--leader-elect", *flags, *more], {}).election
    assert election == ElectionSettings("a", "b", 60, "c", "2001:db8::1")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--leader-elect"], "needs --pod-ip (ROWLOCK_POD_IP)"),
        (["--leader-elect", "--pod-ip=10.0.0.7", "--coordinator-port=0"], "needs a --coordinator-port"),
        (["--leader-elect", "--pod-ip=here"], "must be an IP address, got 'here'"),
        (["--leader-elect=perhaps"], "must be true or false, got 'perhaps'"),
        (["--launcher-image-pull-policy=Sometimes"], "must be Always, IfNotPresent or Never, got 'Sometimes'"),
        (["--leader-elect-lease-seconds=2"], "must be a whole number of seconds from 3 to 300"),
    ],
)
def test_what_cannot_work_is_refused_with_the_flag_and_what_it_may_be(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_settings([URL, *flags], {})
    assert words in capsys.readouterr().err
