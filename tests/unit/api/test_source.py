"""Text becomes plain values, or a problem with a line; never anything else, and never slowly."""

from __future__ import annotations

import pytest

from rowlock.api.problem import ManifestError, Position, dotted
from rowlock.api.source import MAX_BYTES, Source, plain_scalar


def refusals(data: bytes | str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        Source("job.yaml", data if isinstance(data, bytes) else data.encode())
    return str(caught.value).splitlines()


def value(text: str) -> object:
    return Source("job.yaml", text.encode()).value


# What Kubernetes' YAML reader makes of the same words is tried against kubectl in tests/apiserver.
@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("no", False), ("On", True), ("y", True), ("yEs", "yEs"), ("", None), ("~", None), ("null", None),
        ("1_000", 1000), ("0x1F", 31), ("010", 8), ("0o17", 15), ("-0b11", -3), ("1e3", 1000), ("1e-3", 0.001),
        (".5", 0.5), ("4.0", 4), ("12:30:45", "12:30:45"), ("2026-01-31", "2026-01-31"), ("1Gi", "1Gi"), ("-", "-"),
        ("1e999", "1e999"), ("9" * 5000, "9" * 5000), ("\u0665", "\u0665"),
    ],
)  # fmt: skip
def test_an_unquoted_scalar_is_read_as_kubernetes_reads_it(text: str, meaning: object) -> None:
    read = plain_scalar(text)
    assert (type(read), read) == (type(meaning), meaning)


def test_quotes_make_text() -> None:
    assert value("[\"no\", '5', !!str 5]") == ["no", "5", "5"]


@pytest.mark.parametrize("text", ["---\na: 1\n", "---\n---\na: 1\n---\n", "\ufeffa: 1\n", "# hello\na: 1\n...\n"])
def test_one_document_may_be_wrapped_in_empty_ones(text: str) -> None:
    assert value(text) == {"a": 1}


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n---\n"])
def test_an_empty_file_is_said_to_be_empty(text: str) -> None:
    assert refusals(text) == ["job.yaml: is empty: a DistributedTrainingJob is expected"]


def test_a_second_document_is_refused_at_its_line() -> None:
    assert refusals("a: 1\n---\nb: 2\n---\nc: 3\n") == [
        "job.yaml:3:1: one document is expected, this is the second of 3"
    ]


def test_every_repeated_key_is_named_with_both_lines() -> None:
    assert refusals("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n") == [
        "job.yaml:4:3: b.c: is given twice, first in line 3",
        "job.yaml:5:1: a: is given twice, first in line 1",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2", "job.yaml:1:9: is not YAML: expected ',' or ']'"),
        ("a: b: c", "job.yaml:1:5: is not YAML: mapping values are not allowed here"),
        ("a:\n\tb: 1", "job.yaml:2:1: is not YAML: a tab; indent with spaces"),
        ("a: *nowhere", "job.yaml:1:4: is not YAML: found undefined alias"),
        ("a: 'open", "job.yaml:1:9: is not YAML: found unexpected end of stream"),
        ("ok: 1\na: \x01", "job.yaml:2:4: is not YAML: character U+0001 is not allowed"),
        ("on: 1", "job.yaml:1:1: YAML reads the key on as true: put it in quotes"),
        ("? [a]\n: 1", "job.yaml:1:3: a key must be text"),
        ("a: .nan", "job.yaml:1:4: a: must be a finite number, got .nan"),
        ('{"a": "\\ud800"}', "job.yaml:1:7: a: holds half a character (a lone surrogate escape)"),
        ("a: !!python/name:os.system x", "job.yaml:1:4: a: tag !!python/name:os.system is not allowed"),
        ("a: !!binary aGk=", "job.yaml:1:4: a: tag !!binary is not allowed"),
        ("a: !own x", "job.yaml:1:4: a: tag !own is not allowed"),
        ("<<: 5", "job.yaml:1:5: << takes an object or a list of objects"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_at_its_line(text: str, said: str) -> None:
    (problem,) = refusals(text)
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a: 1\nb: \xe9\n", "job.yaml:2:4: is not UTF-8: byte 0xe9"),
        ("a: 1\n".encode("utf-16"), "job.yaml:1:1: is not UTF-8: byte 0xff"),
        (b"x" * (MAX_BYTES + 1), "job.yaml: is larger than 1024 KiB: the API server could not store it"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, said: str) -> None:
    assert refusals(data) == [said]


def _laughs() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join(lines)


def _merges() -> str:
    lines = ["a0: &a0 {k: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [_laughs(), _merges(), "a: &a [*a]", "a: &a {b: *a}", "&a {<<: *a}"],
    ids=["billion laughs", "billion merges", "list in itself", "object in itself", "merged into itself"],
)
def test_aliases_cannot_unfold_without_bound(text: str) -> None:
    (problem,) = refusals(text)
    assert "unfolds to more than" in problem


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 50_000, "- " * 50_000])
def test_nesting_cannot_exhaust_the_stack(text: str) -> None:
    (problem,) = refusals(text)
    assert "is nested more than 100 levels deep" in problem


def test_an_alias_is_what_its_anchor_is() -> None:
    text = "a: &x {k: 1}\nb: *x\nc: {<<: *x, k: 2, l: 3}\nd: {<<: [*x, {k: 5, m: 4}]}\n"
    assert value(text) == {"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 2, "l": 3}, "d": {"k": 1, "m": 4}}


@pytest.mark.parametrize(
    "text", ['{"a":\t"x\\ty",\n\t"b": [1, 2.5, true, null]}', '{"a": "x\\ty", "b": [1, 2.5, true, null]}']
)
def test_json_may_be_indented_with_tabs(text: str) -> None:
    assert value(text) == {"a": "x\ty", "b": [1, 2.5, True, None]}


def test_a_character_escaped_in_two_halves_is_one() -> None:
    assert value('{"a": "\\ud83d\\udea3"}') == {"a": "\U0001f6a3"}


def test_a_field_stands_where_its_key_is_and_an_absent_one_where_its_parent_is() -> None:
    source = Source("job.yaml", b"a:\n  b: [x,\n    y]\n")
    assert source.position(("a", "b")) == Position(2, 3)
    assert source.position(("a", "b", 1)) == Position(3, 5)
    assert source.position(("a", "c", "d")) == Position(1, 1)


def test_what_is_written_is_kept_for_unquoted_scalars_only() -> None:
    source = Source("job.yaml", b"a: on\nb: 'on'\n")
    assert (source.written(("a",)), source.written(("b",))) == ("on", None)


def test_a_path_is_written_as_a_user_would() -> None:
    assert dotted(("spec", "containers", 0, "a.b/c", "d")) == "spec.containers[0][a.b/c].d"
