"""The fields of the resource by the names that users write, for messages about the ones that do not exist."""

from __future__ import annotations

import difflib
import re
import types
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from rowlock.api.problem import FieldPath, dotted
from rowlock.api.v1alpha1 import DistributedTrainingJob, Model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo


def model_of(annotation: Any) -> type[Model] | None:
    """The model that values of this annotation are, or that the items of its list are."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    if get_origin(annotation) in (Annotated, Union, types.UnionType, list):
        found = (model_of(argument) for argument in get_args(annotation))
        return next((model for model in found if model is not None), None)
    return None


def fields_of(model: type[Model]) -> dict[str, FieldInfo]:
    """Fields by the name used in manifests."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def model_at(path: FieldPath) -> type[Model] | None:
    """The model of the object at `path`; None where the schema has none."""
    model: type[Model] | None = DistributedTrainingJob
    for part in path:
        if isinstance(part, int):
            continue
        field = fields_of(model).get(part) if model is not None else None
        model = model_of(field.annotation) if field is not None else None
    return model


def suggestion(path: FieldPath) -> str:
    """What somebody who wrote the unknown field `path` may have meant; empty when nothing is near."""
    written = str(path[-1])
    model = model_at(path[:-1])
    siblings = list(fields_of(model)) if model is not None else []
    near = closest(written, siblings)
    if near:
        return f"did you mean {near}?"
    elsewhere = [place for place in _all_paths() if _letters(str(place[-1])) == _letters(written)]
    if elsewhere:
        return f"did you mean {' or '.join(dotted(place) for place in elsewhere[:2])}?"
    return f"known here: {', '.join(siblings)}" if siblings else ""


def closest(written: str, known: list[str]) -> str:
    """The known word most like `written`, whatever its case and separators; empty when none is near."""
    by_letters = {_letters(word): word for word in known}
    # 0.7 accepts one or two slips in a word of field-name length, and not another field's name.
    near = difflib.get_close_matches(_letters(written), by_letters, n=1, cutoff=0.7)
    return by_letters[near[0]] if near else ""


def _letters(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


@cache
def _all_paths() -> tuple[FieldPath, ...]:
    """Every field below spec, nearest the root first."""

    def below(model: type[Model], path: FieldPath) -> Iterator[FieldPath]:
        for name, field in fields_of(model).items():
            yield (*path, name)
            inner = model_of(field.annotation)
            if inner is not None:
                yield from below(inner, (*path, name))

    spec = model_at(("spec",))
    assert spec is not None  # noqa: S101 - the schema has a spec
    return tuple(sorted(below(spec, ("spec",)), key=len))
