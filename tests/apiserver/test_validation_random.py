"""Loader and API server agree on manifests that nobody thought of.

Each case is a valid manifest with one field, anywhere in the schema, set to something else: near its bounds,
of another type, too long, or odd. Both must take it or both refuse it, and what both take must mean the same.

Left out on purpose: whole numbers written as 1.0, which kubectl makes 1 of before the API server sees them,
and empty values in maps, which the API server drops without a word and the loader names.
"""

from __future__ import annotations

import copy
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from rowlock.api.crd import root_schema
from rowlock.api.manifest import ManifestError, parse_manifest
from tests.support.manifests import as_stored, command_job, trainer_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.kube_api import KubeApi

JsonObject = dict[str, Any]
SCHEMA = root_schema()
JOBS = "/apis/rowlock.dev/v1alpha1/namespaces/default/distributedtrainingjobs"
#: A case takes about 10 ms. Twenty times as many were tried when the loader was written.
CASES = 100

CONTAINER: JsonObject = {
    "name": "trainer",
    "env": [{"name": "A", "value": "b", "valueFrom": {"x": 1}}],
    "envFrom": [{}],
    "resources": {"limits": {"cpu": 1}},
    "volumeMounts": [{"name": "a", "mountPath": "/a", "subPath": "b"}],
    "securityContext": {},
}
POD: JsonObject = {
    "containers": [CONTAINER],
    "initContainers": [{"name": "i"}],
    "volumes": [{"name": "v"}],
    "nodeSelector": {"a": "b"},
    "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 3}],
    "affinity": {},
    "topologySpreadConstraints": [{}],
    "imagePullSecrets": [{"name": "x"}],
    "resourceClaims": [{"name": "q"}],
    "priorityClassName": "x",
}
CNN: JsonObject = {"cnn": {"channels": [1, 2], "dropout": 0.5}}
BASES: list[JsonObject] = [
    command_job(),
    trainer_job(),
    command_job(
        template={"metadata": {"labels": {"a": "b"}}, "spec": POD},
        checkpoint={"storage": {"size": "1Gi"}},
        recovery={"backoff": {"initialSeconds": 1}, "retryableExitCodes": [1, 2]},
    ),
    trainer_job(
        trainer={
            "data": "digits",
            "steps": 10,
            "model": CNN,
            "optimizer": {"adamw": {"eps": 1e-8}},
            "schedule": {"warmupSteps": 3},
        }
    ),
    trainer_job(
        trainer={
            "data": "python-text",
            "steps": 10,
            "model": {"gpt": {"width": 8, "heads": 2}},
            "optimizer": {"sgd": {"momentum": 0}},
        }
    ),
]
NUMBERS = [0, 1, -1, 2, 5, 64, 1.5, 0.5, 1e-320, 2**31, 2**31 - 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1]
LONG = ["x" * length for length in (63, 64, 254, 1025, 32_769)]
TEXTS = ["", "a", "A", "1", "true", "-a", "a-", "a.b", "a_b", "\u00e9", "\n", "a\n", "\U0001d11e" * 1024, *LONG]
QUANTITIES = ["10Gi", "1e3", "500m", "0", "-1", "+1", "1.5Gi", "1.Gi", ".5", "10gi"]
LISTS = [[], [None], [1], ["a"], ["a", "a"], [[]], [{}]]
OBJECTS = [{}, {"name": "a"}, {"a": "b"}, {"a": 1}, {"a": {}}, {"": ""}]
ODD: list[Any] = [None, True, False, *NUMBERS, *TEXTS, *QUANTITIES, *LISTS, *OBJECTS]


def places(
    schema: JsonObject, value: Any, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], JsonObject]]:
    """Every field of the schema below `path`; of lists and maps, the items that `value` has."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from places(part, value.get(name, {}) if isinstance(value, dict) else {}, (*path, name))
    for word, kind in (("items", list), ("additionalProperties", dict)):
        if word in schema and isinstance(value, kind):
            for key in value if isinstance(value, dict) else range(len(value)):
                yield from places(schema[word], value[key], (*path, key))


def telling(chance: random.Random, schema: JsonObject) -> list[Any]:
    """Values near what the schema bounds."""
    found: list[Any] = [schema[word] + step for word in ("minimum", "maximum") if word in schema for step in (-1, 0, 1)]
    found += schema.get("enum", [])
    if "maxLength" in schema:
        found += [letter * (schema["maxLength"] + more) for letter in "x\u00e9" for more in (0, 1)]
    if "maxItems" in schema:
        found += [[item] * (schema["maxItems"] + more) for item in (1, "a") for more in (0, 1)]
        found.append([any_value(chance, schema["items"]) for _ in range(chance.randint(0, 3))])
    if "properties" in schema:
        parts = schema["properties"].items()
        found.append({name: any_value(chance, part) for name, part in parts if chance.random() < 0.3})
    return found


def any_value(chance: random.Random, schema: JsonObject) -> Any:
    near = telling(chance, schema) if chance.random() < 0.4 else []
    return chance.choice(near or ODD)


def case(chance: random.Random) -> tuple[str, JsonObject]:
    """A manifest with one field changed, and what was changed."""
    manifest = copy.deepcopy(chance.choice(BASES))
    path, schema = chance.choice(list(places(SCHEMA["properties"]["spec"], manifest["spec"], ("spec",))))
    *way, last = path
    target: Any = manifest
    for part in way:
        target = target.setdefault(part, {}) if isinstance(target, dict) else target[part]
    target[last] = any_value(chance, schema)
    return f"{path} = {target[last]!r}"[:300], manifest


def laptop(manifest: JsonObject) -> JsonObject | str:
    """The spec as a cluster would store it, or the refusal."""
    try:
        return as_stored(parse_manifest(json.dumps(manifest).encode(), "job.json"), manifest)
    except ManifestError as error:
        return str(error)


@pytest.mark.parametrize("seed", range(4))
def test_both_take_the_same_manifests_and_mean_the_same(api: KubeApi, seed: int) -> None:
    chance = random.Random(seed)
    taken = 0
    for _ in range(CASES):
        what, manifest = case(chance)
        answer = api.create(JOBS, manifest, fieldValidation="Strict", dryRun="All")
        local = laptop(manifest)
        if answer.status < 300:
            taken += 1
            assert local == answer.body["spec"], f"{what}: taken by the API server"
        else:
            assert isinstance(local, str), f"{what}: refused by the API server: {answer.message}"
    # Neither side takes everything or nothing, or the cases would say little.
    assert 0 < taken < CASES
