"""Manifests to start from: the smallest valid ones, and a way to set one field of a copy."""

from __future__ import annotations

import copy
from typing import Any

JsonObject = dict[str, Any]


class _Absent:
    """Stands for a field to take out."""


ABSENT = _Absent()


def command_job(name: str = "plain", **spec: Any) -> JsonObject:
    """The smallest job that runs a command, with fields of spec set."""
    return _job(name, {"command": ["python", "train.py"], **spec})


def trainer_job(name: str = "digits", **spec: Any) -> JsonObject:
    """The smallest job of the built-in trainer, with fields of spec set."""
    trainer = {"model": {"mlp": {}}, "data": "digits", "steps": 10}
    return _job(name, {"trainer": trainer, **spec})


def _job(name: str, spec: JsonObject) -> JsonObject:
    return {
        "apiVersion": "rowlock.dev/v1alpha1",
        "kind": "DistributedTrainingJob",
        "metadata": {"name": name},
        "spec": spec,
    }


def changed(manifest: JsonObject, path: str, value: Any) -> JsonObject:
    """A copy with the field at `path` (dots between names) set, objects on the way made; ABSENT takes it out."""
    result = copy.deepcopy(manifest)
    *way, last = path.split(".")
    target = result
    for part in way:
        target = target.setdefault(part, {})
    if value is ABSENT:
        target.pop(last)
    else:
        target[last] = value
    return result
