"""--fresh starts over and keeps what was; a job that failed goes on when it is run again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.local.runs import finish, manifest, place, status

#: Leaves its mark on the volume, and says what it found there.
MARK = "import os, pathlib\np = pathlib.Path(os.environ['ROWLOCK_CHECKPOINT_DIR'], 'mark')\n"


def command(text: str) -> list[str]:
    return [sys.executable, "-c", MARK + text]


def test_fresh_starts_over_on_a_claim_of_ones_own_too(tmp_path: Path) -> None:
    once = command("assert not p.exists()\np.write_text('mine')\n")
    path = manifest(tmp_path, workers=1, command=once, checkpoint={"storage": {"claimName": "shared"}})
    assert finish(path)[0] == 0
    claim = tmp_path / "state" / "default" / ".claims" / "shared"
    assert (claim / "crew" / "mark").read_text() == "mine"
    code, output = finish(path, "--fresh")
    assert code == 0, output
    assert (claim / "crew.1" / "mark").read_text() == "mine"
    assert (tmp_path / "state" / "default" / "crew.1" / "job.json").exists()
    assert output.count("the last run was moved to") == 2


def test_fresh_with_nothing_before_it_moves_nothing(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=["true"])
    code, output = finish(path, "--fresh")
    assert code == 0, output
    assert "moved" not in output
    assert not (tmp_path / "state" / "default" / "crew.1").exists()


def test_a_job_that_failed_goes_on_with_budgets_anew_on_the_same_volume(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        workers=1,
        command=command("if not p.exists():\n  p.write_text('x')\n  raise SystemExit('the [bold]data[/] is gone')\n"),
        recovery={"maxFailures": 0},
    )
    code, output = finish(path)
    assert code == 1
    assert f"try again with: rowlock run {path}" in output
    assert "the [bold]data[/] is gone" in output  # shown as it was said, not taken for markup
    failed = json.loads((place(path) / "job.json").read_text())
    code, output = finish(path)
    assert code == 0, output
    assert "going on after it failed: 1 failures, recovery.maxFailures is 0" in output
    after = json.loads((place(path) / "job.json").read_text())
    assert after["uid"] == failed["uid"]
    assert after["status"]["generation"] == failed["status"]["generation"] + 1
    assert after["status"]["failures"]["count"] == 0
    assert [one["status"] for one in after["status"]["conditions"] if one["type"] == "Failed"] == ["False"]


def test_what_losses_cost_is_kept_over_the_runs_of_a_job_until_it_starts_over(tmp_path: Path) -> None:
    fails = command("if os.environ['ROWLOCK_GENERATION'] in '13': raise SystemExit(3)\n")
    path = manifest(tmp_path, workers=1, command=fails, recovery={"maxFailures": 0})

    def kept() -> list[int]:
        return [one["generation"] for one in json.loads((place(path) / "recoveries.json").read_text())]

    assert finish(path)[0] == 1
    assert kept() == [1]
    assert finish(path)[0] == 0
    assert kept() == [1]
    assert status(path)["generation"] == 2
    assert finish(path, "--fresh")[0] == 1
    assert kept() == [1]
    assert json.loads((tmp_path / "state/default/crew.1/recoveries.json").read_text())[0]["generation"] == 1
