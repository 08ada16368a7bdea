"""A nested state taken apart: tensors for the data files, the rest for the manifest.

Keys are the path joined by dots, as torch.distributed.checkpoint spells them. Tensors keep their identity,
so that loading writes into the very tensors the caller holds; values are put back into the container they
came from. What is neither a tensor nor JSON is refused by name: the alternative is a pickle.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from rowlock_trainer.checkpoint.manifest import JSON

_SCALARS = (bool, int, float, str, type(None))


@dataclass
class FlatState:
    """A nested state by dotted key."""

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    values: dict[str, JSON] = field(default_factory=dict)
    _places: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def put(self, key: str, value: JSON) -> None:
        """Put a loaded value where the one of `key` was found; a tuple stays a tuple."""
        container, place = self._places[key]
        container[place] = tuple(value) if isinstance(container[place], tuple) else value  # type: ignore[arg-type]

    def keys(self) -> set[str]:
        """Return the keys of tensors and values together."""
        return self.tensors.keys() | self.values.keys()


def flatten(state: MutableMapping[str, Any]) -> FlatState:
    """Return `state` by dotted key.

    Args:
        state: nested dicts and lists; leaves are strided tensors (DTensors too), JSON scalars, or lists and
            tuples of JSON scalars.

    Raises:
        TypeError: a leaf is something else; the message names its key.
        ValueError: two leaves have the same dotted key.
    """
    flat = FlatState()
    for key, value in state.items():
        _visit(flat, str(key), value, state, key)
    return flat


def _visit(flat: FlatState, key: str, value: object, container: Any, place: Any) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _visit(flat, f"{key}.{name}", inner, value, name)
    elif isinstance(value, list) and not _is_json(value):
        for position, inner in enumerate(value):
            _visit(flat, f"{key}.{position}", inner, value, position)
    elif key in flat.tensors or key in flat.values:
        raise ValueError(f"two entries of the state have the key {key!r}; rename one")
    elif isinstance(value, torch.Tensor):
        flat.tensors[key] = _storable(key, value)
    elif _is_json(value):
        flat.values[key] = _plain(value)
        flat._places[key] = (container, place)
    else:
        kind = type(value).__qualname__
        raise TypeError(
            f"state[{key!r}] is of type {kind}; a checkpoint holds tensors, numbers, text and lists of them. "
            f"Turn it into one of these"
        )


def _is_json(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_json(item) for item in value)
    return isinstance(value, _SCALARS)


def _plain(value: object) -> JSON:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value  # type: ignore[return-value]  # _is_json has been asked


def _storable(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """Refuse the tensors whose bytes alone do not say what they are."""
    trouble = ""
    if tensor.layout != torch.strided:
        trouble = f"has layout {tensor.layout}"
    elif tensor.is_quantized:
        trouble = "is quantized"
    elif tensor.device.type == "meta":
        trouble = "is on the meta device and has no data"
    if trouble:
        raise TypeError(f"state[{key!r}] {trouble}; a checkpoint holds dense tensors with data")
    return tensor
