"""What ranks write is read once, whole, and counted for the right life of each rank."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.cluster.records import Records, first_lives, steps_since
from benchmarks.cluster.session import times_of


def line(step: int, moment: float, process: float) -> str:
    return json.dumps({"step": step, "time": moment, "process": process}) + "\n"


def test_files_that_grow_are_read_on_from_the_last_whole_line(tmp_path: Path) -> None:
    records = Records(tmp_path / "later", "rank-*.jsonl")
    assert records.read() == {}
    (tmp_path / "later").mkdir()
    path = tmp_path / "later" / "rank-0.jsonl"
    path.write_text(line(1, 10.0, 5.0) + line(2, 11.0, 5.0)[:12])
    assert [one["step"] for one in records.read()["rank-0"]] == [1]
    path.write_text(line(1, 10.0, 5.0) + line(2, 11.0, 5.0) + line(3, 12.0, 5.0))
    assert [one["step"] for one in records.read()["rank-0"]] == [1, 2, 3]
    assert [one["step"] for one in records.read()["rank-0"]] == [1, 2, 3]


def test_the_first_line_of_the_life_after_counts_for_each_rank() -> None:
    old, new = 5.0, 105.0
    lines = {
        "rank-0": [
            {"time": 99.0, "process": old},
            {"time": 110.0, "process": new},
            {"time": 111.0, "process": new},
        ],
        # It finished a step after the deletion, but in the life before it: that is not a recovery.
        "rank-1": [{"time": 100.1, "process": old}],
    }
    found = first_lives(lines, born_after=100.0)
    assert {rank: one["time"] for rank, one in found.items()} == {0: 110.0}


def test_steps_are_counted_and_events_are_not() -> None:
    lines = [{"step": 1, "time": 1.0}, {"step": 2, "time": 2.0}, {"step": 2, "time": 3.0, "event": "resumed"}]
    assert steps_since(lines, 0.0) == 2
    assert steps_since(lines, 1.0) == 1


def test_the_runtime_s_times_of_log_lines_are_read_to_the_nanosecond() -> None:
    logs = (
        "2026-01-02T00:00:00.250000001Z 2026-01-02T00:00:00+0000 worker 0: ordered: run in generation 1\n"
        "2026-01-02T00:00:01.5Z [rank 0] something else\n"
        "2026-01-02T00:00:02Z worker 0: ordered: run in generation 2\n"
        "half a line without a time: ordered: run\n"
    )
    midnight = 1767312000.0
    assert times_of(logs, "ordered: run ") == [midnight + 0.250000001, midnight + 2.0]
