"""Whose etcd and kube-apiserver the tests run, and what is said when there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.binaries import PROGRAMS, BinariesError, find_or_build

if TYPE_CHECKING:
    from pathlib import Path


def programs(folder: Path, version: str = "v1.34.2", names: tuple[str, ...] = PROGRAMS) -> Path:
    """Stand-ins that know their version and nothing else."""
    folder.mkdir()
    for name in names:
        program = folder / name
        program.write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
        program.chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Go, no programs and an empty cache, but for /bin/sh of the stand-ins."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("ROWLOCK_CACHE", str(tmp_path / "cache"))


def test_assets_go_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets, path = programs(tmp_path / "assets"), programs(tmp_path / "path")
    monkeypatch.setenv("PATH", str(path))
    assert find_or_build().etcd.parent == path
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert find_or_build().etcd.parent == assets


def test_a_set_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(programs(tmp_path / "old", "v1.29.9")))
    monkeypatch.setenv("PATH", str(programs(tmp_path / "new", "v1.30.0")))
    assert find_or_build().apiserver == tmp_path / "new" / "kube-apiserver"


def test_a_set_that_is_not_whole_is_passed_over_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As setup-envtest leaves it: without the controller manager."""
    partial = programs(tmp_path / "partial", names=("etcd", "kube-apiserver", "kubectl"))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(partial))
    monkeypatch.setenv("PATH", str(programs(tmp_path / "whole")))
    assert find_or_build().kubectl.parent == tmp_path / "whole"
    assert "kube-controller-manager missing" in capsys.readouterr().err


def test_without_programs_and_without_go_three_ways_out_are_named() -> None:
    with pytest.raises(BinariesError, match=r"KUBEBUILDER_ASSETS.*PATH.*install Go"):
        find_or_build()


def test_without_go_what_another_go_built_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.mkdir()
    (go / "go").write_text(
        '#!/bin/sh\n[ "$1" = env ] && { echo go1.99; exit; }\nwhile [ "$1" != -o ]; do shift; done\necho >> "$2"\n'
    )
    (go / "go").chmod(0o755)
    monkeypatch.setenv("PATH", str(go))
    built = find_or_build()
    assert "_go1.99_" in built.etcd.parent.name
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert find_or_build() == built


def test_a_build_that_fails_leaves_nothing_that_looks_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.mkdir()
    (go / "go").write_text('#!/bin/sh\n[ "$1" = env ] && { echo go1.99; exit; }\nexit 1\n')
    (go / "go").chmod(0o755)
    monkeypatch.setenv("PATH", str(go))
    for _ in range(2):
        with pytest.raises(BinariesError, match=r"could not build go\.etcd\.io/etcd/server/v3"):
            find_or_build()
    left = {path.name for path in (tmp_path / "cache" / "control-plane").iterdir()}
    assert left == {".lock"}
