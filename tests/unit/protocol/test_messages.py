"""What is taken off the wire, and what is refused by field and value."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, fields

import pytest

from rowlock.protocol import (
    MAX_COUNT,
    MAX_TIME,
    NOTICE_CHARS,
    CheckpointNote,
    Hello,
    Order,
    Progress,
    ProtocolError,
    RankExit,
    Report,
    decode,
    encode,
    shortened,
)
from rowlock_trainer.channel import RankState

PROGRESS = Progress(7, 10, 0.5, 0.25, 100.0, 3.0, 1e9, {"accuracy": 0.9})
NOTE = CheckpointNote(5, 1, 10, 1e9, "step-00000005-gen-0001")
EXIT = RankExit(0, 1, 3, "ended with exit code 1", 1e9)
WHOLE = Report(2, "running", "host:1", (EXIT,), PROGRESS, NOTE, 5)

#: For each type: a good one, and of each field numbers that are none.
COUNTS = [-2, MAX_COUNT + 1, 1.9, 1.0, True, "1", None]
TIMES = [-1, MAX_TIME + 1, math.nan, math.inf, True, "now", None, 10**400]
RULES = [
    (
        PROGRESS,
        {"step": COUNTS, "total_steps": [*COUNTS, -1], "time": TIMES, "epoch": [-0.1, math.nan, math.inf, True]},
    ),
    (PROGRESS, {"samples_per_second": [True, "1"], "seconds_left": [False, None], "loss": [True, "nan"]}),
    (PROGRESS, {"evaluation": [{"loss": True}, {"loss": "low"}, 3]}),
    (NOTE, {"step": COUNTS, "generation": [*COUNTS, -1], "size_bytes": [*COUNTS, -1], "time": TIMES}),
    (EXIT, {"rank": [*COUNTS, -1], "code": [*COUNTS, -1, 256], "step": COUNTS, "time": TIMES}),
    (Report(), {"generation": [*COUNTS, -1], "resumed_from": COUNTS}),
    (Hello(1, 0, "uid", "host"), {"worker": [*COUNTS, -1]}),
    (Order(1, "run", 2, 1), {"generation": [*COUNTS, -1]}),
    (RankState(1, 0), {"generation": [*COUNTS, -1], "rank": [*COUNTS, -1], "step": COUNTS, "resumed_from": COUNTS}),
]


@pytest.mark.parametrize(
    ("good", "field", "value"),
    [(good, field, value) for good, rules in RULES for field, values in rules.items() for value in values],
    ids=lambda value: type(value).__name__ if hasattr(value, "__dataclass_fields__") else None,
)
def test_a_number_out_of_range_or_of_another_kind_is_refused_by_its_field(good, field, value):
    assert decode(encode(good), type(good)) == good
    with pytest.raises(ProtocolError, match=rf"{type(good).__name__}: .*\b{field}\b"):
        decode(json.dumps({**asdict(good), field: value}), type(good))


@pytest.mark.parametrize("field", ["progress", "checkpoint", "exits"])
def test_a_bad_part_refuses_the_whole_report_and_says_where_it_is(field):
    said = json.loads(encode(WHOLE))
    part = said[field][0] if field == "exits" else said[field]
    part["time"] = 1e20
    with pytest.raises(ProtocolError, match=rf"time is 1e\+20, must be .* @ \$\.{field}"):
        decode(json.dumps(said), Report)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.5, 2, sys.float_info.max])
@pytest.mark.parametrize("field", ["loss", "samples_per_second", "seconds_left"])
def test_what_is_measured_may_be_any_number_or_none(field, value):
    taken = decode(json.dumps({**asdict(PROGRESS), field: value}), Progress)
    assert getattr(taken, field) == value or math.isnan(value)


@pytest.mark.parametrize(
    "edge",
    [
        Progress(-1, 0, 0.0, 0.0, 0.0, 0.0, 0.0),
        Progress(MAX_COUNT, MAX_COUNT, 1e300, 0.0, 0.0, 0.0, MAX_TIME),
        RankExit(0, 255, -1, "", 0.0),
        CheckpointNote(-1, 0, 0, 0.0, ""),
        Report(0, resumed_from=-1),
    ],
    ids=repr,
)
def test_the_ends_of_every_range_are_taken(edge):
    assert decode(encode(edge), type(edge)) == edge


def test_fields_of_a_newer_peer_are_ignored():
    assert decode('{"generation": 3, "mood": "good"}', Report) == Report(3)


@pytest.mark.parametrize("text", ["", "[]", "3", '"x"', "{", "[" * 100_000, b"\xff", "9" * 5000])
def test_what_is_no_object_is_a_protocol_error(text):
    with pytest.raises(ProtocolError, match=r"^Report: "):
        decode(text, Report)


def test_a_refusal_is_short_however_long_the_bad_value_is():
    with pytest.raises(ProtocolError) as caught:
        decode(json.dumps({"generation": "9" * 100_000}), Report)
    assert len(str(caught.value)) < NOTICE_CHARS + 100


def test_text_that_no_file_and_no_server_takes_is_mended():
    taken = decode('{"store": "half a pair: \\ud800"}', Report)
    assert taken.store.encode() == b"half a pair: ?"


def test_every_message_says_the_same_after_a_round_trip():
    assert decode(encode(WHOLE), Report) == WHOLE
    assert {field.name for field in fields(Report)} == json.loads(encode(WHOLE)).keys()


def test_long_text_is_cut_and_shows_it():
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"
