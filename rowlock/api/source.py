"""A manifest's text as plain values that know their line.

A manifest must mean the same here and to kubectl, so plain scalars are read the way Kubernetes' own YAML
reader does (YAML 1.1's booleans, but no base 60 and no dates; `1e-3` is a number), and what it would read
differently from what stands there (a repeated key, a boolean as key) is refused. Only plain data is
built: a tag names no Python type here. Nesting and aliases are bounded, since a file of a kilobyte can else unfold to
gigabytes.

Source of the scalar rules: go.yaml.in/yaml/v2, resolve.go, which sigs.k8s.io/yaml stands on.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

import yaml

from rowlock.api.problem import FieldPath, ManifestError, Position, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

#: etcd takes requests of at most 1.5 MiB, so a larger manifest could not be stored anyway.
MAX_BYTES = 1024 * 1024
#: The deepest field of the schema, inside an affinity term, is about 15 levels down.
MAX_DEPTH = 100
#: Aliases included. A manifest of a thousand environment variables has some five thousand.
MAX_VALUES = 100_000

_TAG = "tag:yaml.org,2002:"
_PLAIN = "plain"
_ALLOWED_TAGS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq")}
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {
    spelling: value
    for value, words in ((True, ("y", "yes", "true", "on")), (False, ("n", "no", "false", "off")))
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
}
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGERS = (
    (re.compile(r"[-+]?0[0-7]+"), 8),
    (re.compile(r"[-+]?[0-9]+"), 10),
    (re.compile(r"[-+]?0[bB][01]+"), 2),
    (re.compile(r"[-+]?0[oO][0-7]+"), 8),
    (re.compile(r"[-+]?0[xX][0-9a-fA-F]+"), 16),
)
#: More than 64 bits have in base 2 with sign and prefix; what is longer is at most a floating-point number.
_INTEGER_DIGITS = 67
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class Source:
    """One document of a manifest.

    Attributes:
        value: the document as dicts, lists, texts, numbers, booleans and None.
    """

    def __init__(self, name: str, data: bytes) -> None:
        """Read `data`; `name` is what problems call the file.

        Raises:
            ManifestError: it is not one document of plain YAML or JSON.
        """
        self.name = name
        self._positions: dict[FieldPath, Position] = {}
        self._written: dict[FieldPath, str] = {}
        self._problems: list[Problem] = []
        self._values = 0
        root = self._one_document(self._tabs_as_spaces(self._decoded(data)))
        self.value = self._built(root, ())
        if self._problems:
            raise ManifestError(self._problems)

    def position(self, path: FieldPath) -> Position | None:
        """Where `path` stands: its key, or for a list's item the item. A field that is absent: its parent."""
        while path and path not in self._positions:
            path = path[:-1]
        return self._positions.get(path)

    def written(self, path: FieldPath) -> str | None:
        """How an unquoted scalar is written, before YAML made a boolean or a number of it."""
        return self._written.get(path)

    # --- text to nodes ----------------------------------------------------------------------------

    def _refuse(self, position: Position | None, reason: str, path: FieldPath = ()) -> ManifestError:
        return ManifestError([*self._problems, Problem(self.name, position, path, reason)])

    def _decoded(self, data: bytes) -> str:
        if len(data) > MAX_BYTES:
            raise self._refuse(None, f"is larger than {MAX_BYTES // 1024} KiB: the API server could not store it")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = data[: error.start]
            position = Position(before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1)
            raise self._refuse(position, f"is not UTF-8: byte 0x{data[error.start]:02x}") from None

    @staticmethod
    def _tabs_as_spaces(text: str) -> str:
        # JSON may be indented with tabs and YAML may not; inside JSON's strings a tab cannot stand as it is.
        if "\t" not in text or not text.lstrip().startswith("{"):
            return text
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return text
        return text.replace("\t", " ")

    def _one_document(self, text: str) -> yaml.Node:
        try:
            self._bound_depth(text)
            documents = [node for node in yaml.compose_all(text, _Loader) if not _empty(node)]
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            position = Position(before.count("\n") + 1, error.position - before.rfind("\n"))
            reason = f"is not YAML: character U+{ord(text[error.position]):04X} is not allowed"
            raise self._refuse(position, reason) from None
        except yaml.MarkedYAMLError as error:
            raise self._refuse(_mark(error.problem_mark or error.context_mark), _syntax(error)) from None
        if not documents:
            raise self._refuse(None, "is empty: a DistributedTrainingJob is expected")
        if len(documents) > 1:
            position = _mark(documents[1].start_mark)
            raise self._refuse(position, f"one document is expected, this is the second of {len(documents)}")
        return documents[0]

    def _bound_depth(self, text: str) -> None:
        """Nodes are composed by recursion, events are not: so the depth is counted on events first."""
        depth = 0
        for event in yaml.parse(text, _Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise self._refuse(_mark(event.start_mark), f"is nested more than {MAX_DEPTH} levels deep")

    # --- nodes to values --------------------------------------------------------------------------

    def _built(self, node: yaml.Node, path: FieldPath) -> Any:
        self._positions.setdefault(path, _mark(node.start_mark))
        self._count(node, len(path))
        if node.tag not in _ALLOWED_TAGS and node.tag != _PLAIN:
            reason = f"tag {_short(node.tag)} is not allowed: only plain data is"
            raise self._refuse(_mark(node.start_mark), reason, path)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._built(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _count(self, node: yaml.Node, depth: int) -> None:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            reason = f"unfolds to more than {MAX_VALUES} values or {MAX_DEPTH} levels: are its aliases meant?"
            raise self._refuse(_mark(node.start_mark), reason)

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if _is_merge(key_node):
                merged.append(value_node)
                continue
            key = self._key(key_node, path)
            here = (*path, key)
            if key in result:
                first = self._positions[here].line
                self._note(key_node, here, f"is given twice, first in line {first}")
                continue
            self._add(result, key_node, value_node, here)
        for key_node, value_node in self._merged(merged, path, 0):
            key = self._key(key_node, path)
            if key not in result:
                self._add(result, key_node, value_node, (*path, key))
        return result

    def _add(self, result: dict[str, Any], key_node: yaml.Node, value_node: yaml.Node, path: FieldPath) -> None:
        self._positions[path] = _mark(key_node.start_mark)
        result[str(path[-1])] = self._built(value_node, path)

    def _merged(self, nodes: list[yaml.Node], path: FieldPath, depth: int) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """YAML's `<<`: fields of other objects, where this one does not set them; the first wins."""
        for node in nodes:
            self._count(node, depth)
            if isinstance(node, yaml.SequenceNode):
                yield from self._merged(node.value, path, depth + 1)
            elif isinstance(node, yaml.MappingNode):
                yield from (pair for pair in node.value if not _is_merge(pair[0]))
                deeper = [value for key, value in node.value if _is_merge(key)]
                yield from self._merged(deeper, path, depth + 1)
            else:
                self._note(node, path, "<< takes an object or a list of objects")

    def _key(self, node: yaml.Node, path: FieldPath) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._note(node, path, "a key must be text")
            return ""
        text = str(node.value)
        if node.tag == _PLAIN and (text in _NULL or text in _BOOLEANS):
            meaning = "nothing" if text in _NULL else str(_BOOLEANS[text]).lower()
            self._note(node, path, f"YAML reads the key {text or '(empty)'} as {meaning}: put it in quotes")
        return self._joined(node, text, path)

    def _joined(self, node: yaml.Node, text: str, path: FieldPath) -> str:
        """JSON escapes write a character beyond U+FFFF as two halves."""
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._note(node, path, "holds half a character (a lone surrogate escape)")
            return ""

    def _scalar(self, node: yaml.Node, path: FieldPath) -> Any:
        text = str(node.value)
        if node.tag == _TAG + "str":
            return self._joined(node, text, path)
        self._written[path] = text
        if _NOT_FINITE.fullmatch(text):
            self._note(node, path, f"must be a finite number, got {text}")
            return 0
        return plain_scalar(text)

    def _note(self, node: yaml.Node, path: FieldPath, reason: str) -> None:
        self._problems.append(Problem(self.name, _mark(node.start_mark), path, reason))


def plain_scalar(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar, as Kubernetes reads it.

    >>> [plain_scalar(text) for text in ("no", "1e-3", "0x10", "12:30:45", "2026-01-31", "4.0")]
    [False, 0.001, 16, '12:30:45', '2026-01-31', 4]
    """
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[:1] not in set("+-.0123456789"):
        return text
    digits = text.replace("_", "")
    for pattern, base in _INTEGERS:
        if len(digits) <= _INTEGER_DIGITS and pattern.fullmatch(digits):
            return int(digits, base)
    if _FLOAT.fullmatch(digits):
        number = float(digits)
        # JSON, which YAML is turned into on its way to the API server, knows one kind of number.
        return int(number) if number.is_integer() and abs(number) < 2**53 else _finite(number, text)
    return text


def _finite(number: float, text: str) -> float | str:
    return number if math.isfinite(number) else text


class _Loader(yaml.SafeLoader):
    """Composes nodes only, and leaves plain scalars as they are written."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _TAG + "str"
        return _TAG + ("seq" if kind is yaml.SequenceNode else "map")


def _is_merge(key: yaml.Node) -> bool:
    return bool(key.tag == _PLAIN and key.value == "<<")


def _empty(node: yaml.Node) -> bool:
    return node.tag == _PLAIN and node.value in _NULL


def _mark(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1) if mark is not None else Position(1, 1)


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag


def _syntax(error: yaml.MarkedYAMLError) -> str:
    problem = (error.problem or "").strip()
    if "'\\t'" in problem:
        return "is not YAML: a tab; indent with spaces"
    context = f" ({error.context})" if error.context else ""
    return f"is not YAML: {problem}{context}"
