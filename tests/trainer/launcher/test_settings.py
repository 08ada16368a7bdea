"""A worker that cannot run as it is written says which variable is wrong, and ends for good."""

from __future__ import annotations

import asyncio

import pytest

from rowlock import protocol
from rowlock.protocol import ExitCode, encode
from rowlock_trainer.launcher.settings import SettingsError, read_settings
from tests.trainer.launcher.crew import config, crew_in


@pytest.fixture
def environ(tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text("secret-token\n")
    return {
        protocol.ENV_CONFIG: encode(config(worker=2, workers=4)),
        protocol.ENV_COORDINATOR: "http://rowlock.rowlock-system:8470",
        protocol.ENV_TOKEN_FILE: str(token_file),
        protocol.ENV_POD_UID: "uid",
        protocol.ENV_ADDRESS: "digits-2.digits",
    }


def test_settings_name_the_workers_place_at_the_coordinator(environ):
    settings = read_settings(environ)
    assert settings.url == "ws://rowlock.rowlock-system:8470/v1alpha1/jobs/default/digits/workers/2"
    assert settings.token() == "secret-token"


def test_a_new_token_is_read_when_the_file_changes(environ, tmp_path):
    settings = read_settings(environ)
    (tmp_path / "token").write_text("newer")
    assert settings.token() == "newer"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (protocol.ENV_CONFIG, "", "is not set"),
        (protocol.ENV_CONFIG, "{", "WorkerConfig"),
        (protocol.ENV_CONFIG, encode(config(worker=4, workers=4)), "worker 4 is not among 4 workers"),
        (protocol.ENV_CONFIG, encode(config(command=())), "exactly one of trainer and command"),
        (protocol.ENV_CONFIG, encode(config(processes_per_worker=0)), "processes_per_worker is 0"),
        (protocol.ENV_COORDINATOR, "rowlock:8470", "must read http://host:port"),
        (protocol.ENV_TOKEN_FILE, "/nowhere/token", "cannot be read: No such file"),
        (protocol.ENV_POD_UID, "", "is not set"),
        (protocol.ENV_ADDRESS, " ", "is not set"),
    ],
)
def test_a_wrong_variable_is_named_with_the_way_out(environ, name, value, words):
    with pytest.raises(SettingsError) as caught:
        read_settings({**environ, name: value})
    assert name in str(caught.value)
    assert words in str(caught.value)


def test_an_empty_token_file_is_refused(environ, tmp_path):
    (tmp_path / "token").write_text("\n")
    with pytest.raises(SettingsError, match="the file is empty"):
        read_settings(environ)


def test_the_launcher_ends_with_one_clear_line_and_a_termination_message(tmp_path):
    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(), **{protocol.ENV_TOKEN_FILE: "/nowhere/token"})
            assert await launcher.exit_code() == ExitCode.CONFIG
            assert "ROWLOCK_TOKEN_FILE=/nowhere/token: cannot be read" in launcher.termination_log.read_text()
            await launcher.line("cannot start: ROWLOCK_TOKEN_FILE")
            assert len(launcher.lines) == 1

    asyncio.run(scenario())
