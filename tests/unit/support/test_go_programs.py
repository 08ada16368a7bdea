"""Where a program comes from: a folder that was named, PATH, the cache, or Go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import go_programs
from tests.support.go_programs import BinariesError, program

if TYPE_CHECKING:
    from pathlib import Path

GO_MOD = """module rowlock.dev/tests/support/oar

go 1.26.0

tool example.dev/oar/v2/cmd/oar

require example.dev/oar/v2 v2.3.4
"""
#: Says its version, and "builds" by writing down what it was asked for.
GO = """#!/bin/sh
[ "$1" = env ] && { echo go1.99; exit; }
all="$*"
while [ "$1" != -o ]; do shift; done
echo "$all" > "$2"
"""


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module folder `oar`, on a machine without Go and with an empty cache."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("ROWLOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(go_programs, "SOURCES", tmp_path / "sources")
    folder = tmp_path / "sources" / "oar"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text(GO_MOD)
    return folder


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Go of a kind, alone on PATH."""
    program = executable(tmp_path / "go" / "go", GO)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


def test_assets_go_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets, path = executable(tmp_path / "assets" / "oar", ""), executable(tmp_path / "path" / "oar", "")
    monkeypatch.setenv("PATH", str(path.parent))
    assert program("oar") == path
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets.parent))
    assert program("oar") == assets


def test_one_that_does_not_fit_is_passed_over(tmp_path: Path, go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = executable(tmp_path / "old" / "oar", "")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(old.parent))
    assert program("oar", fits=lambda found: found != old).is_relative_to(tmp_path / "cache")


def test_the_tool_of_go_mod_is_built_and_carries_its_version(go: Path) -> None:
    built = program("oar", stamp="example.dev/oar/v2/version.version")
    assert built.parent.name.startswith("oar-v2.3.4_go1.99_")
    command = built.read_text().split()
    assert command[-1] == "example.dev/oar/v2/cmd/oar"
    assert "example.dev/oar/v2/version.version=v2.3.4" in command


def test_another_package_of_another_folder_can_be_named(go: Path) -> None:
    built = program("blade", module="oar", package="example.dev/oar/v2/cmd/blade")
    assert (built.name, built.read_text().split()[-1]) == ("blade", "example.dev/oar/v2/cmd/blade")


def test_a_folder_with_a_program_of_its_own_is_built_as_it_is(sources: Path, go: Path) -> None:
    (sources / "go.mod").write_text("module rowlock.dev/tests/support/oar\n\ngo 1.26.0\n")
    assert program("oar").read_text().split()[-1] == "."


def test_it_is_built_once_and_anew_when_its_sources_change(sources: Path, go: Path) -> None:
    first = program("oar")
    stamp = first.stat().st_mtime_ns
    assert (program("oar"), first.stat().st_mtime_ns) == (first, stamp)
    (sources / "go.sum").write_text("another")
    assert program("oar") != first


def test_without_go_what_was_built_is_taken(tmp_path: Path, go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = program("oar")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert program("oar") == built


def test_without_anything_the_ways_out_are_named() -> None:
    with pytest.raises(BinariesError, match=r"oar.*PATH.*KUBEBUILDER_ASSETS.*install Go"):
        program("oar")


def test_a_build_that_fails_leaves_nothing_that_looks_finished(tmp_path: Path, go: Path) -> None:
    executable(go, '#!/bin/sh\n[ "$1" = env ] && { echo go1.99; exit; }\nexit 1\n')
    for _ in range(2):
        with pytest.raises(BinariesError, match=r"could not build example\.dev/oar/v2/cmd/oar"):
            program("oar")
    assert {path.name for path in (tmp_path / "cache" / "programs").iterdir()} == {".lock"}
