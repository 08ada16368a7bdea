"""pydantic's findings in the words of somebody who writes a manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rowlock.api.fields import closest
from rowlock.api.v1alpha1 import DNS_1035_LABEL, DNS_LABEL, DNS_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic_core import ErrorDetails

#: A message fits a line; a value longer than this is cut.
_SHOWN = 60

_PATTERNS = {
    DNS_LABEL: "lower-case letters, digits and '-', and begin and end with a letter or digit",
    DNS_1035_LABEL: "lower-case letters, digits and '-', begin with a letter and end with a letter or digit",
    DNS_NAME: "lower-case letters, digits, '-' and '.', and begin and end with a letter or digit",
}
_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_BOUNDS: dict[str, tuple[str, str]] = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_LENGTHS: dict[str, tuple[str, str]] = {
    "string_too_short": ("at least {} characters long", "min_length"),
    "string_too_long": ("at most {} characters long", "max_length"),
    "too_short": ("at least {} long", "min_length"),
    "too_long": ("at most {} long", "max_length"),
}


def reason_of(detail: ErrorDetails, written: str | None) -> str:
    """What is wrong, as the end of a sentence that the field begins.

    Args:
        detail: pydantic's finding.
        written: the scalar as it stands in the file if it is not quoted, else None.
    """
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "missing":
        return "is required"
    if kind == "value_error":
        return str(context["error"])
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}, got {shown(value)}{_quoting_hint(kind, value, written)}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"must be {words} {_number(context[key])}, got {shown(value)}"
    if kind in _LENGTHS:
        words, key = _LENGTHS[kind]
        if not value:
            return "must not be empty"
        return f"must be {words.format(context[key])}, got {len(value)}"
    special = _SPECIAL.get(kind)
    return special(value, context) if special else f"{detail['msg']}, got {shown(value)}"


def shown(value: Any) -> str:
    """A value as JSON writes it, cut to a line; of lists and objects only that they are."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _quoting_hint(kind: str, value: Any, written: str | None) -> str:
    if kind == "string_type" and written is not None and isinstance(value, bool | int | float):
        reads = f"; YAML reads {written} as {shown(value)}" if isinstance(value, bool) else ""
        return f'{reads}; put it in quotes: "{written}"'
    quoted = isinstance(value, str) and written is None
    if quoted and kind in {"int_type", "float_type", "bool_type"}:
        return "; if that is the value, write it without quotes"
    return ""


def _choice(value: Any, context: Mapping[str, Any]) -> str:
    choices = str(context["expected"]).replace("'", "")
    near = closest(value, choices.replace(" or ", ", ").split(", ")) if isinstance(value, str) else ""
    return f"must be {choices}, got {shown(value)}" + (f"; did you mean {near}?" if near else "")


def _pattern(value: Any, context: Mapping[str, Any]) -> str:
    pattern = str(context["pattern"])
    words = _PATTERNS.get(pattern)
    return f"must consist of {words}, got {shown(value)}" if words else f"must match {pattern}, got {shown(value)}"


_SPECIAL: dict[str, Callable[[Any, Mapping[str, Any]], str]] = {
    "literal_error": _choice,
    "string_pattern_mismatch": _pattern,
}
