"""What a manifest may hold that means something in a cluster only: told once, so that nobody waits for it.

The volume's size and class are not among it: the directory that stands for the claim does what they ask for.
"""

from __future__ import annotations

from typing import Any

from rowlock.api.v1alpha1 import DEFAULT_IMAGE, TRAINER_CONTAINER, Container, JobSpec

#: Parts of the template's pod spec that mean the same on a laptop.
_KEPT = {"containers", "terminationGracePeriodSeconds"}


def meaningless(spec: JobSpec) -> list[str]:
    """Return the fields of `spec` that are set and change nothing on one machine, as a person writes them."""
    found = []
    if spec.image != DEFAULT_IMAGE:
        found.append("image")
    found += [f"template.metadata.{name}" for name in _set(spec.template.metadata)]
    found += [f"template.spec.{name}" for name in _set(spec.template.spec) if name not in _KEPT]
    for container in spec.template.spec.containers:
        place = f"template.spec.containers[{container.name}]"
        found += [f"{place}.{name}" for name in _of(container)] if container.name == TRAINER_CONTAINER else [place]
    if spec.checkpoint.retention == "Delete":
        found.append("checkpoint.retention: Delete")
    if spec.ttl_seconds_after_finished is not None:
        found.append("ttlSecondsAfterFinished")
    return [f"spec.{name}" for name in found]


def _of(container: Container) -> list[str]:
    names = [name for name in _set(container) if name not in ("name", "env")]
    return names + [f"env[{variable.name}].valueFrom" for variable in container.env if variable.value_from is not None]


def _set(part: Any) -> list[str]:
    """Return the names of the fields of a model that differ from their defaults."""
    return list(part.model_dump(by_alias=True, exclude_defaults=True))
