"""The CustomResourceDefinition, made from the models.

`python -m rowlock.api.crd` prints it; `--check FILE` says whether a file still is what the models say. The
API server takes a dialect of JSON schema ("structural"): no references, no nullable unions, no titles. What
pydantic writes is close, so its generator is bent at the few places where the two differ, and everything else
(bounds, patterns, descriptions) passes through from the one place where it is written.

Defaults are the API server's to fill in, so a field whose default is an object carries `{}` and the objects
below it their own defaults: what `kubectl get -o yaml` shows is what the operator acts on.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from rowlock.api.v1alpha1 import GROUP, KIND, PLURAL, SHORT_NAME, SINGULAR, VERSION, DistributedTrainingJob, Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import core_schema

JsonObject = dict[str, Any]
CRD_NAME = f"{PLURAL}.{GROUP}"
_HEADER = "# Made from rowlock/api/v1alpha1.py by `python -m rowlock.api.crd`; change it there.\n"
#: Words of pydantic's schemas that a CRD does not know, or that are put in anew.
_FOREIGN = {"$defs", "title", "const", "additionalProperties"}
#: What a reader looks for comes first.
_ORDER = ("description", "type", "default", "required")
_INT_OR_STRING = "x-kubernetes-int-or-string"

#: kubectl's columns: name, path, type, and whether only `-o wide` shows it.
COLUMNS: tuple[tuple[str, str, str, bool], ...] = (
    ("Phase", ".status.phase", "string", False),
    ("Workers", ".status.workersReady", "string", False),
    ("Step", ".status.progress.step", "integer", False),
    ("Loss", ".status.progress.loss", "string", False),
    ("Checkpoint", ".status.lastCheckpoint.step", "integer", False),
    ("Restarts", ".status.restarts", "integer", False),
    ("Age", ".metadata.creationTimestamp", "date", False),
    ("Total-Steps", ".status.progress.totalSteps", "integer", True),
    ("Samples/s", ".status.progress.samplesPerSecond", "string", True),
    ("Generation", ".status.generation", "integer", True),
    ("Failures", ".status.failures.count", "integer", True),
    ("Preemptions", ".status.preemptions.count", "integer", True),
)


class StructuralSchema(GenerateJsonSchema):
    """pydantic's generator, bent to what the API server takes."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never: a title repeats the field's name."""
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """An optional field is one that may be absent; null is no value of its own."""
        return self.generate_inner(schema["schema"])

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        """The default, also where a factory makes it; pydantic leaves those out."""
        factory = schema.get("default_factory")
        return factory() if callable(factory) else super().get_default_value(schema)  # type: ignore[call-arg]

    def encode_default(self, dft: Any) -> Any:
        """Of an object only what was set: the API server fills in the rest from the schema below.

        Where the object has rules it is written out, for the API server tries them on the bare default.
        """
        if isinstance(dft, Model):
            bare = not dft.cel_rules
            return dft.model_dump(mode="json", by_alias=True, exclude_unset=bare, exclude_none=True)
        return super().encode_default(dft)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Adds the model's CEL rules."""
        result = super().model_schema(schema)
        cls = schema["cls"]
        if issubclass(cls, Model) and cls.cel_rules:
            result["x-kubernetes-validations"] = [rule.model_dump() for rule in cls.cel_rules]
        return result


def structural(schema: JsonObject, definitions: JsonObject) -> JsonObject:
    """`schema` with references put in their place and only the words that a CRD knows.

    Args:
        schema: what `StructuralSchema` made.
        definitions: the models that `schema` refers to, by name.
    """
    if "$ref" in schema:
        # What stands beside a reference (the field's description and default) goes before what it refers to.
        target = definitions[schema["$ref"].rpartition("/")[2]]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    result = {key: schema[key] for key in _ORDER if key in schema}
    result.update((key, value) for key, value in schema.items() if key not in result and key not in _FOREIGN)
    if result.get("default", ...) is None:
        del result["default"]
    _bounds_of_openapi_3_0(result)
    if "const" in schema:
        result["enum"] = [schema["const"]]
    if "properties" in schema:
        result["properties"] = {name: structural(part, definitions) for name, part in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        result["items"] = structural(schema["items"], definitions)
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = structural(schema["additionalProperties"], definitions)
    if schema.get(_INT_OR_STRING):
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return result


def _bounds_of_openapi_3_0(schema: JsonObject) -> None:
    """Exclusive bounds are flags beside the bound there, not bounds themselves."""
    for side in ("minimum", "maximum"):
        flag = f"exclusive{side.capitalize()}"
        if flag in schema:
            schema[side] = schema[flag]
            schema[flag] = True


def root_schema() -> JsonObject:
    """The schema of the whole object; metadata is the API server's own, but for the bounds of the name."""
    made = DistributedTrainingJob.model_json_schema(by_alias=True, schema_generator=StructuralSchema)
    schema = structural(made, made["$defs"])
    properties = schema["properties"]
    name = properties["metadata"]["properties"]["name"]
    properties["metadata"] = {"type": "object", "properties": {"name": name}}
    properties["apiVersion"] = {"type": "string", "description": "Version of this schema."}
    properties["kind"] = {"type": "string", "description": "Kind of this object."}
    # Status begins when the operator first writes it: a default here would show a phase nobody decided.
    del properties["status"]["default"]
    schema["required"] = ["spec"]
    return schema


def custom_resource_definition() -> JsonObject:
    """The CustomResourceDefinition as an object."""
    columns = [
        {"name": name, "jsonPath": path, "type": kind, **({"priority": 1} if wide else {})}
        for name, path, kind, wide in COLUMNS
    ]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": columns,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.workers",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "schema": {"openAPIV3Schema": root_schema()},
    }
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": SINGULAR,
        "shortNames": [SHORT_NAME],
        "categories": ["ai", "training"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


class _PlainDumper(yaml.SafeDumper):
    """Writes every object out: anchors would be refused by stricter readers, and hide what a diff should show."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> str:
    """The CustomResourceDefinition as YAML, the same for the same models."""
    definition = custom_resource_definition()
    return _HEADER + yaml.dump(definition, Dumper=_PlainDumper, sort_keys=False, width=110, allow_unicode=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the definition, or compare a file with it."""
    parser = argparse.ArgumentParser(prog="python -m rowlock.api.crd", description=__doc__.splitlines()[0])
    parser.add_argument("--check", type=Path, metavar="FILE", help="exit 1 with a diff if FILE is out of date")
    path = parser.parse_args(arguments).check
    wanted = render()
    if path is None:
        sys.stdout.write(wanted)
        return 0
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    before, after = (text.splitlines(keepends=True) for text in (found, wanted))
    sys.stdout.writelines(difflib.unified_diff(before, after, str(path), "the models"))
    if found != wanted:
        sys.stderr.write(f"{path} is out of date: python -m rowlock.api.crd > {path}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
