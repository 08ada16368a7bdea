"""Manifests on a laptop: the checks of the API server, with the line where each problem stands.

`load_manifest` refuses what the API server would refuse, and says so before a cluster is asked. Pydantic
finds the problems, strictly and on JSON's types, for that is what the API server sees; here they are put into
plain words and tied to the place in the file. All problems of a file are reported at once, but rules
between fields are tried only once the fields themselves are right.

In two places this is stricter on purpose, because a cluster would drop what was written without a word: a
key given twice, and an empty value in a map such as nodeSelector.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rowlock.api.fields import closest, fields_of, model_of, suggestion
from rowlock.api.problem import FieldPath, ManifestError, Position, Problem, dotted
from rowlock.api.source import MAX_BYTES, Source
from rowlock.api.v1alpha1 import API_VERSION, KIND, DistributedTrainingJob, Model
from rowlock.api.wording import reason_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ManifestError", "Position", "Problem", "dotted", "load_manifest", "parse_manifest"]

#: metav1.ObjectMeta. The model reads only some; the API server refuses what is not among these.
_METADATA = (
    "name", "generateName", "namespace", "labels", "annotations", "finalizers", "ownerReferences", "uid",
    "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "managedFields", "selfLink",
)  # fmt: skip


def load_manifest(path: Path | str) -> DistributedTrainingJob:
    """Read the job in a YAML or JSON file.

    Raises:
        ManifestError: the file cannot be read, or is no valid DistributedTrainingJob. It lists every problem
            found.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError([Problem(name, None, (), _unreadable(error))]) from None
    return parse_manifest(data, name)


def parse_manifest(data: bytes, name: str) -> DistributedTrainingJob:
    """Read the job in `data`; `name` is what problems call it.

    Raises:
        ManifestError: it is no valid DistributedTrainingJob.
    """
    source = Source(name, data)
    _expect_kind(source)
    problems = [*_unknown_metadata(source)]
    value = _without_nulls(source.value, DistributedTrainingJob)
    try:
        # As JSON, since strict means there what it means to the API server: no text for a number, but objects
        # for models. By alias only: the snake_case names are Python's.
        job = DistributedTrainingJob.model_validate_json(json.dumps(value), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ManifestError([*problems, *_problems(source, error)]) from None
    if problems:
        raise ManifestError(problems)
    return job


def _unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a directory: name the manifest in it"
    return f"cannot be read: {error.strerror or error}"


def _expect_kind(source: Source) -> None:
    """Of another kind of object every further line would be wrong too: so this comes first and alone."""
    if not isinstance(source.value, dict):
        reason = f"a {KIND} is expected, an object with apiVersion, kind, metadata and spec; got {shown(source.value)}"
        raise ManifestError([Problem(source.name, source.position(()), (), reason)])
    problems = []
    for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        found = source.value.get(field)
        if found != wanted:
            got = f"got {shown(found)}" if field in source.value else "is missing"
            problems.append(Problem(source.name, source.position((field,)), (field,), f"must be {wanted}, {got}"))
    if problems:
        raise ManifestError(problems)


def _unknown_metadata(source: Source) -> Iterator[Problem]:
    metadata = source.value.get("metadata")
    for name in metadata if isinstance(metadata, dict) else ():
        if name not in _METADATA:
            near = closest(name, list(_METADATA))
            reason = "unknown field" + (f"; did you mean {near}?" if near else "")
            path = ("metadata", name)
            yield Problem(source.name, source.position(path), path, reason)


def _without_nulls(value: Any, model: type[Model]) -> Any:
    """`value` without its empty fields: the API server takes those as absent, before it fills in defaults."""
    if isinstance(value, list):
        return [_without_nulls(item, model) for item in value]
    if not isinstance(value, dict):
        return value
    fields = fields_of(model)
    result = {}
    for name, part in value.items():
        field = fields.get(name)
        inner = model_of(field.annotation) if field is not None else None
        if part is not None or field is None:
            result[name] = part if inner is None else _without_nulls(part, inner)
    return result


def _problems(source: Source, error: ValidationError) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        path: FieldPath = tuple(part for part in detail["loc"] if part != "[key]")
        reason = reason_of(detail, source.written(path))
        if detail["type"] == "extra_forbidden":
            hint = suggestion(path)
            reason = f"unknown field; {hint}" if hint else "unknown field"
        yield Problem(source.name, source.position(path), path, reason)
