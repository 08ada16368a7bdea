"""Which program builds an image, and what pip's settings a build is given."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import pytest

from images.build import ImageError, find_tool
from images.pip_settings import write_pip_settings


def stand_in(folder: Path, name: str, exit_code: int) -> None:
    """A program that ends with a code."""
    (folder / name).write_text(f"#!/bin/sh\nexit {exit_code}\n")
    (folder / name).chmod(0o755)


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program on PATH, no settings of pip."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    for variable in ("PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_PROXY",
                     "PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES", "IMAGE_TOOL"):  # fmt: skip
        monkeypatch.delenv(variable, raising=False)


def test_docker_is_taken_if_its_daemon_answers(tmp_path):
    stand_in(tmp_path, "docker", 0)
    stand_in(tmp_path, "podman", 0)
    assert find_tool() == "docker"


def test_the_tool_that_is_asked_for_is_taken_or_missed(tmp_path, monkeypatch):
    stand_in(tmp_path, "docker", 0)
    stand_in(tmp_path, "podman", 0)
    monkeypatch.setenv("IMAGE_TOOL", "podman")
    assert find_tool() == "podman"
    (tmp_path / "podman").unlink()
    with pytest.raises(ImageError, match="IMAGE_TOOL is podman, and there is no podman here"):
        find_tool()
    monkeypatch.setenv("IMAGE_TOOL", "buildah")
    with pytest.raises(ImageError, match="IMAGE_TOOL is 'buildah', must be docker or podman"):
        find_tool()


def test_podman_is_taken_where_no_daemon_answers(tmp_path):
    stand_in(tmp_path, "docker", 1)
    stand_in(tmp_path, "podman", 0)
    assert find_tool() == "podman"


def test_where_nothing_builds_images_the_error_says_what_to_install():
    with pytest.raises(ImageError, match=r"no Docker daemon answers.*Install one of them.*podman"):
        find_tool()


def test_a_machine_without_settings_of_pip_passes_no_secret(tmp_path):
    assert write_pip_settings(tmp_path, machine=str(tmp_path / "none")) == {}


def test_a_build_is_told_this_machines_index_and_certificates(tmp_path, monkeypatch):
    """The files are read as pip reads them, the environment wins, and what concerns this machine alone stays here."""
    (tmp_path / "machine.conf").write_text("[global]\nindex-url = https://overridden/simple\nretries = 9\n")
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://mirror/50%25/simple\ncert = /etc/ca.pem\nno-cache-dir = yes\n"
        "[install]\ntrusted-host = mirror\n"
    )
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://other/simple")
    folder = tmp_path / "secrets"
    folder.mkdir()
    secrets = write_pip_settings(folder, machine=str(tmp_path / "machine.conf"))
    assert secrets == {"ca": Path("/etc/ca.pem"), "pip": folder / "pip.conf"}
    told = ConfigParser(interpolation=None)
    told.read(secrets["pip"])
    assert dict(told["global"]) == {
        "index-url": "https://mirror/50%25/simple",
        "extra-index-url": "https://other/simple",
        "trusted-host": "mirror",
        "retries": "9",
        "cert": "/run/secrets/ca",
    }
