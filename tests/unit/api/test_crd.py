"""The CRD says what the models say, in the API server's dialect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rowlock.api import crd
from rowlock.api.v1alpha1 import JobSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

CRD_PATH = Path(__file__).parents[3] / "crds" / f"{crd.GROUP}_{crd.PLURAL}.yaml"
WORDS = {
    "type", "description", "default", "required", "properties", "items", "additionalProperties", "enum", "format",
    "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems",
    "maxItems", "minProperties", "maxProperties", "anyOf",
}  # fmt: skip


def every_schema(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from every_schema(part, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if word in schema:
            yield from every_schema(schema[word], f"{path}[]")


SCHEMAS = dict(every_schema(crd.root_schema()))


def test_the_file_in_crds_is_what_the_models_say() -> None:
    assert CRD_PATH.read_text() == crd.render(), f"python -m rowlock.api.crd > crds/{CRD_PATH.name}"


def test_check_passes_a_file_that_is_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "crd.yaml"
    assert crd.main([]) == 0
    path.write_text(capsys.readouterr().out)
    assert crd.main(["--check", str(path)]) == 0


def test_check_shows_what_is_out_of_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "crd.yaml"
    path.write_text(crd.render().replace("maximum: 1024", "maximum: 1023", 1))
    assert crd.main(["--check", str(path)]) == 1
    shown = capsys.readouterr()
    changes = [line for line in shown.out.splitlines() if "maximum: 102" in line]
    assert [line[0] + line[1:].strip() for line in changes] == ["-maximum: 1023", "+maximum: 1024"]
    assert "python -m rowlock.api.crd >" in shown.err


def test_check_of_a_missing_file_fails(tmp_path: Path) -> None:
    assert crd.main(["--check", str(tmp_path / "none.yaml")]) == 1


def test_every_field_is_described() -> None:
    fields = {path: schema for path, schema in SCHEMAS.items() if path.rpartition(".")[2].isidentifier()}
    silent = [path for path, schema in fields.items() if not schema.get("description")]
    assert [path for path in silent if not path.startswith(".metadata")] == []


def test_only_words_of_the_dialect_are_used() -> None:
    foreign = {
        (path, word)
        for path, schema in SCHEMAS.items()
        for word in schema
        if word not in WORDS and not word.startswith("x-kubernetes-")
    }
    assert foreign == set()


def test_every_schema_has_one_type() -> None:
    typeless = [path for path, schema in SCHEMAS.items() if "type" not in schema]
    assert all(SCHEMAS[path].get("x-kubernetes-int-or-string") for path in typeless)


def test_every_text_and_list_of_spec_is_bounded() -> None:
    """An unbounded one makes the estimated cost of a rule over it unbounded too."""
    unbounded = [
        path
        for path, schema in SCHEMAS.items()
        if path.startswith(".spec")
        and (
            (schema.get("type") == "string" and "maxLength" not in schema and "enum" not in schema)
            or (schema.get("type") == "array" and "maxItems" not in schema)
            or ("additionalProperties" in schema and "maxProperties" not in schema)
        )
    ]
    assert unbounded == []


def test_every_rule_is_where_its_object_is() -> None:
    rules = {rule["rule"] for rule in SCHEMAS[".spec"]["x-kubernetes-validations"]}
    assert rules == {rule.rule for rule in JobSpec.cel_rules}


def test_an_object_whose_fields_all_have_defaults_has_one_itself() -> None:
    """Else the API server would not go below it to fill them in."""
    lacking = [
        path
        for path, schema in SCHEMAS.items()
        if path.startswith(".spec.") and schema.get("properties") and "required" not in schema
        if "default" not in schema
    ]
    choices = {".spec.trainer.model", ".spec.trainer.optimizer"}
    alternatives = {path for path in lacking if path.rpartition(".")[0] in choices}
    # Items of a list are there or not, and so is one of several alternatives.
    assert {path for path in lacking if not path.endswith("[]")} - alternatives == choices


def test_exclusive_bounds_are_flags() -> None:
    rate = SCHEMAS[".spec.trainer.optimizer.sgd.learningRate"]
    assert (rate["minimum"], rate["exclusiveMinimum"]) == (0, True)


def test_status_and_scale_are_subresources() -> None:
    version = yaml.safe_load(crd.render())["spec"]["versions"][0]
    assert version["subresources"]["status"] == {}
    paths = version["subresources"]["scale"].values()
    assert all(path in SCHEMAS for path in paths)


def test_every_column_shows_a_field_that_exists() -> None:
    paths = {path for _, path, _, _ in crd.COLUMNS} - {".metadata.creationTimestamp"}
    assert paths <= set(SCHEMAS)
