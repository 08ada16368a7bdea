"""Manifests to start from: the smallest valid ones, and a way to set one field of a copy."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rowlock.api.v1alpha1 import DistributedTrainingJob

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


def as_stored(job: DistributedTrainingJob, manifest: JsonObject) -> JsonObject:
    """The spec of `job`, which was read from `manifest`, as the API server stores it: with all its defaults.

    But for the optimizer, which is not stored unless it was given (see its field for why).
    """
    spec: JsonObject = json.loads(job.spec.model_dump_json(by_alias=True, exclude_none=True))
    given = (manifest["spec"].get("trainer") or {}).get("optimizer")
    if "trainer" in spec and given is None:
        del spec["trainer"]["optimizer"]
    return spec
