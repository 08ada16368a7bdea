"""spec.template: the part of a pod template that a job may set."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import (
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel

from rowlock.api.v1alpha1.base import (
    CHECKPOINTS_PATH,
    LAUNCHER_DIRECTORY,
    RESERVED_PREFIX,
    TOKEN_DIRECTORY,
    TRAINER_CONTAINER,
    DnsLabel,
    DnsName,
    LongText,
    Model,
    Passthrough,
    Quantity,
    Rule,
    Text,
)


class EnvVar(Model):
    """One environment variable."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(description="Name of the variable.")
    value: LongText | None = Field(default=None, description="Its value.")
    value_from: Passthrough | None = Field(
        default=None, description="Where the value comes from (core/v1 EnvVarSource)."
    )


class Resources(Model):
    """What a container asks for and is limited to."""

    requests: dict[str, Quantity] = Field(default={}, max_length=32, description="What the scheduler sets aside.")
    limits: dict[str, Quantity] = Field(default={}, max_length=32, description="What the container may use at most.")
    claims: list[Passthrough] = Field(default=[], max_length=16, description="Claims of spec.resourceClaims.")


class VolumeMount(Model):
    """Where a volume appears in a container."""

    name: DnsLabel = Field(description="Name of the volume.")
    mount_path: Text = Field(description="Path in the container.")
    sub_path: Text | None = Field(default=None, description="Path inside the volume.")
    read_only: bool = Field(default=False, description="Whether writes are refused.")


#: Paths in the trainer container that are the operator's own.
_PATHS_TAKEN = (CHECKPOINTS_PATH, TOKEN_DIRECTORY, LAUNCHER_DIRECTORY)
_MOUNT_TAKEN = (
    f"volumeMounts of the trainer container must leave {', '.join(_PATHS_TAKEN[:-1])} and {_PATHS_TAKEN[-1]} "
    "to the operator; where checkpoints are stored is said in spec.checkpoint.storage"
)


class Container(Model):
    """A container. The one named ``trainer`` is merged into the worker's own; others run beside it."""

    name: DnsLabel = Field(description="Name; trainer is the worker's own container.")
    image: Text | None = Field(default=None, description="Image; for the trainer container it replaces spec.image.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="When the image is pulled."
    )
    command: list[LongText] | None = Field(
        default=None, max_length=256, description="Entry point; not for the trainer container."
    )
    args: list[LongText] | None = Field(default=None, max_length=256, description="Arguments; not for trainer.")
    working_dir: Text | None = Field(default=None, description="Working directory.")
    env: list[EnvVar] = Field(default=[], max_length=256, description="Environment variables.")
    env_from: list[Passthrough] = Field(default=[], max_length=64, description="Sources of environment variables.")
    resources: Resources = Field(default_factory=Resources, description="Requests and limits.")
    volume_mounts: list[VolumeMount] = Field(default=[], max_length=64, description="Volumes to mount.")
    security_context: Passthrough | None = Field(default=None, description="core/v1 SecurityContext.")

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule=f"self.name != '{TRAINER_CONTAINER}' || (!has(self.command) && !has(self.args))",
            message="the trainer container's command is spec.command",
        ),
        Rule(
            rule=f"self.name != '{TRAINER_CONTAINER}' || "
            f"self.volumeMounts.all(m, !m.mountPath.matches('^({'|'.join(_PATHS_TAKEN)})/*$'))",
            message=_MOUNT_TAKEN,
        ),
    )

    @model_validator(mode="after")
    def _trainer_runs_the_launcher(self) -> Container:
        if self.name != TRAINER_CONTAINER:
            return self
        if self.command is not None or self.args is not None:
            raise ValueError("the trainer container's command is spec.command")
        for mount in self.volume_mounts:
            if mount.mount_path.rstrip("/") in _PATHS_TAKEN:
                raise ValueError(f"{_MOUNT_TAKEN}, got mountPath {mount.mount_path!r}")
        return self


class Toleration(Model):
    """A taint the pods may live with."""

    key: Text | None = Field(default=None, description="Taint key; empty with operator Exists means every taint.")
    operator: Literal["Exists", "Equal", "Lt", "Gt"] | None = Field(default=None, description="How value compares.")
    value: Text | None = Field(default=None, description="Taint value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Taint effect; empty means all."
    )
    toleration_seconds: int | None = Field(
        default=None, ge=0, le=2**31 - 1, description="How long a NoExecute taint is tolerated, in seconds."
    )


class NamedObject(Model):
    """A core/v1 object with a name, passed on as it is."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="allow",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    name: DnsLabel = Field(description="Name.")


class LocalObjectReference(Model):
    """A reference to an object in the job's namespace."""

    name: DnsName = Field(description="Name of the object.")


class PodSpec(Model):
    """The part of core/v1 PodSpec that a job may set.

    restartPolicy, hostname, subdomain and automountServiceAccountToken belong to the operator.
    """

    containers: list[Container] = Field(default=[], max_length=8, description="trainer, and containers beside it.")
    init_containers: list[NamedObject] = Field(
        default=[], max_length=8, description="core/v1 Containers that run first."
    )
    volumes: list[NamedObject] = Field(default=[], max_length=64, description="core/v1 Volumes.")
    node_selector: dict[str, Text] = Field(default={}, max_length=64, description="Labels a node must have.")
    tolerations: list[Toleration] = Field(default=[], max_length=64, description="Taints the pods may live with.")
    affinity: Passthrough | None = Field(default=None, description="core/v1 Affinity.")
    topology_spread_constraints: list[Passthrough] = Field(
        default=[], max_length=16, description="core/v1 TopologySpreadConstraints."
    )
    security_context: Passthrough | None = Field(default=None, description="core/v1 PodSecurityContext.")
    image_pull_secrets: list[LocalObjectReference] = Field(
        default=[], max_length=16, description="Secrets for pulling images."
    )
    priority_class_name: DnsName | None = Field(default=None, description="PriorityClass of the pods.")
    scheduler_name: DnsName | None = Field(default=None, description="Scheduler that places the pods.")
    runtime_class_name: DnsName | None = Field(default=None, description="RuntimeClass of the pods.")
    service_account_name: DnsName | None = Field(
        default=None, description="ServiceAccount of the pods; its token is not mounted."
    )
    resource_claims: list[NamedObject] = Field(default=[], max_length=16, description="core/v1 PodResourceClaims.")
    host_network: bool = Field(default=False, description="Whether pods use the node's network.")
    termination_grace_period_seconds: int = Field(
        default=30, ge=1, le=3600, description="Seconds between SIGTERM and SIGKILL; the crew saves in them."
    )

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="self.containers.all(c, self.containers.filter(d, d.name == c.name).size() == 1)",
            message="names of containers must differ",
        ),
        *(
            Rule(
                rule=f"self.{field}.all(x, !x.name.startsWith('{RESERVED_PREFIX}'))",
                message=f"names in {field} must not begin with {RESERVED_PREFIX}: those are the operator's own",
            )
            for field in ("containers", "initContainers", "volumes")
        ),
    )

    @model_validator(mode="after")
    def _names_are_free(self) -> PodSpec:
        named = (("containers", self.containers), ("initContainers", self.init_containers), ("volumes", self.volumes))
        for field, objects in named:
            for one in objects:
                if one.name.startswith(RESERVED_PREFIX):
                    raise ValueError(
                        f"names in {field} must not begin with {RESERVED_PREFIX}: those are the operator's own, "
                        f"got {one.name!r}"
                    )
        names = [container.name for container in self.containers]
        if len(set(names)) != len(names):
            raise ValueError(f"names of containers must differ: {', '.join(names)}")
        return self


class TemplateMeta(Model):
    """Labels and annotations of the pods."""

    labels: dict[str, Text] = Field(
        default={}, max_length=64, description="Labels; rowlock.dev/* belong to the operator."
    )
    annotations: dict[str, LongText] = Field(default={}, max_length=64, description="Annotations.")


class PodTemplate(Model):
    """Template of the worker pods."""

    metadata: TemplateMeta = Field(default_factory=TemplateMeta, description="Labels and annotations of the pods.")
    spec: PodSpec = Field(default_factory=PodSpec, description="Spec of the pods.")
