"""Names and building blocks that every part of the resource is made of."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

GROUP = "rowlock.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "DistributedTrainingJob"
PLURAL = "distributedtrainingjobs"
SINGULAR = "distributedtrainingjob"
SHORT_NAME = "dtj"
DEFAULT_IMAGE = "ghcr.io/rowlock/trainer:0.1.0"
#: Name of the container that runs the launcher; a template's container of this name is merged into it.
TRAINER_CONTAINER = "trainer"
MAX_WORKERS = 1024
#: Where the checkpoint volume, the job's token and, in an image of the user's own, the launcher are in the trainer
#: container: nothing else may be mounted there.
CHECKPOINTS_PATH = "/checkpoints"
TOKEN_DIRECTORY = "/var/run/rowlock"  # noqa: S105 (a path, no secret)
LAUNCHER_DIRECTORY = "/opt/rowlock"
#: Names of volumes and containers that begin so are the operator's own.
RESERVED_PREFIX = "rowlock-"
#: All words of a command together, in bytes of UTF-8. The command travels inside one environment variable, of
#: which Linux takes 128 KiB (MAX_ARG_STRLEN); in JSON a byte becomes at most 6 (\u001f), and 6 x 20,000 leaves
#: 11 KB for quotes, commas and what else a worker is told.
MAX_COMMAND_BYTES = 20_000

_QUANTITY = r"^[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+|[numkMGTPE]|Ki|Mi|Gi|Ti|Pi|Ei)?$"


def _quantity(value: object) -> str | int:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    if whole or (isinstance(value, str) and len(value) <= 64 and re.fullmatch(_QUANTITY, value)):
        return value  # type: ignore[return-value]  # narrowed by `whole`, which mypy does not follow
    raise ValueError(f"must be a quantity like 2, 500m or 10Gi, got {value!r}")


#: An amount of cpu, memory or storage (resource.Quantity), not negative.
Quantity = Annotated[
    str | int,
    PlainValidator(_quantity),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": _QUANTITY, "maxLength": 64, "minimum": 0}),
]
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
#: What a Service may be called, and so the job it is named after.
DNS_1035_LABEL = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
DNS_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
DnsLabel = Annotated[str, StringConstraints(pattern=DNS_LABEL, max_length=63)]
DnsName = Annotated[str, StringConstraints(pattern=DNS_NAME, max_length=253)]
Text = Annotated[str, StringConstraints(max_length=1024)]
LongText = Annotated[str, StringConstraints(max_length=32768)]
#: An object of the core Kubernetes API that is passed on as it is; the API server judges it with the pod.
Passthrough = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]


class Rule(BaseModel):
    """A CEL validation rule of the generated schema."""

    rule: str
    message: str


class Model(BaseModel):
    """Base of every part: camelCase outside, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")
    #: CEL rules of this object, written into the CRD as x-kubernetes-validations.
    cel_rules: ClassVar[tuple[Rule, ...]] = ()
