"""The DistributedTrainingJob resource, v1alpha1: the one source of the CRD, its docs and the CLI's checks.

Every field has a description, a bound and, where it makes sense, a default; `rowlock.api.crd` turns the
models into the CustomResourceDefinition, and the same models read a manifest on a laptop. What a schema
cannot say is said twice on purpose, once as a pydantic validator and once as the CEL rule next to it, and a
test holds the pairs together against a real API server.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    model_validator,
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
#: Where the checkpoint volume and the job's token are in the trainer container: nothing else may be mounted there.
CHECKPOINTS_PATH = "/checkpoints"
TOKEN_DIRECTORY = "/var/run/rowlock"  # noqa: S105 (a path, no secret)
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


# --- trainer -------------------------------------------------------------------------------------------


class MlpModel(Model):
    """A multilayer perceptron on flattened images."""

    hidden: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default=[128, 64], max_length=32, description="Width of each hidden layer, first to last."
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout probability after each hidden layer.")


class CnnModel(Model):
    """A small convolutional network on images."""

    channels: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        default=[16, 32],
        min_length=1,
        max_length=8,
        description="Channels of each convolution block, first to last.",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout probability before the classifier.")


class GptModel(Model):
    """A byte-level GPT."""

    layers: int = Field(default=2, ge=1, le=256, description="Transformer blocks.")
    heads: int = Field(default=4, ge=1, le=256, description="Attention heads; must divide the width.")
    width: int = Field(default=64, ge=1, le=65536, description="Width of the residual stream.")
    context: int = Field(default=64, ge=1, le=131072, description="Longest sequence, in bytes.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout probability inside the blocks.")

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(rule="self.width % self.heads == 0", message="width must be a multiple of heads"),
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> GptModel:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads: {self.width} % {self.heads} is not 0")
        return self


class ModelSpec(Model):
    """Which built-in model to train: exactly one of mlp, cnn and gpt."""

    mlp: MlpModel | None = Field(default=None, description="A multilayer perceptron on flattened images.")
    cnn: CnnModel | None = Field(default=None, description="A small convolutional network on images.")
    gpt: GptModel | None = Field(default=None, description="A byte-level GPT on text.")

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="[has(self.mlp), has(self.cnn), has(self.gpt)].filter(x, x).size() == 1",
            message="exactly one of mlp, cnn and gpt must be set",
        ),
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> ModelSpec:
        chosen = [name for name in ("mlp", "cnn", "gpt") if getattr(self, name) is not None]
        if len(chosen) != 1:
            raise ValueError(f"exactly one of mlp, cnn and gpt must be set, got {', '.join(chosen) or 'none'}")
        return self


class SgdOptimizer(Model):
    """torch.optim.SGD."""

    learning_rate: float = Field(default=0.1, gt=0, le=100, description="Base learning rate.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum factor.")
    weight_decay: float = Field(default=0.0, ge=0, le=10, description="L2 penalty.")


class AdamWOptimizer(Model):
    """torch.optim.AdamW."""

    learning_rate: float = Field(default=0.001, gt=0, le=100, description="Base learning rate.")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the running mean of the gradient.")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="Decay of the running mean of its square.")
    eps: float = Field(default=1e-8, gt=0, le=1, description="Added to the denominator for stability.")
    weight_decay: float = Field(default=0.01, ge=0, le=10, description="Decoupled weight decay.")


class OptimizerSpec(Model):
    """Which optimizer to use: exactly one of sgd and adamw."""

    sgd: SgdOptimizer | None = Field(default=None, description="Stochastic gradient descent with momentum.")
    adamw: AdamWOptimizer | None = Field(default=None, description="AdamW.")

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(rule="has(self.sgd) != has(self.adamw)", message="exactly one of sgd and adamw must be set"),
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> OptimizerSpec:
        if (self.sgd is None) == (self.adamw is None):
            raise ValueError("exactly one of sgd and adamw must be set")
        return self


class ScheduleSpec(Model):
    """Learning-rate schedule."""

    name: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="How the rate falls after the warm-up."
    )
    warmup_steps: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="Steps over which the rate rises linearly from 0 to its base.",
    )
    final_factor: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Factor on the base rate reached at the last step (linear, cosine).",
    )


class TrainerSpec(Model):
    """The built-in trainer."""

    model: ModelSpec = Field(description="The model to train.")
    data: Literal["digits", "python-text"] = Field(
        description="digits: scikit-learn's handwritten digits, for mlp and cnn. "
        "python-text: the source text of Python's own standard library, for gpt."
    )
    global_batch_size: int = Field(
        default=64,
        ge=1,
        le=16_777_216,
        description="Samples per optimizer step over the whole crew. "
        "Must be a multiple of workers x processesPerWorker x accumulationSteps.",
    )
    steps: int = Field(ge=1, le=1_000_000_000, description="Optimizer steps in all.")
    optimizer: OptimizerSpec = Field(
        default_factory=lambda: OptimizerSpec(adamw=AdamWOptimizer()),
        description="The optimizer; AdamW when absent.",
        # Not stored by the API server: a stored adamw would stand beside an sgd that is applied later.
        json_schema_extra={"default": None},
    )
    schedule: ScheduleSpec = Field(default_factory=ScheduleSpec, description="Learning-rate schedule.")
    accumulation_steps: int = Field(
        default=1, ge=1, le=4096, description="Backward passes per optimizer step on each process."
    )
    gradient_clip_norm: float = Field(
        default=0.0, ge=0, le=1e6, description="Largest norm of the whole gradient; 0 turns clipping off."
    )
    evaluate_every_steps: int = Field(
        default=0,
        ge=0,
        le=1_000_000_000,
        description="Steps between evaluations on held-out data; 0 means at the end.",
    )
    log_every_steps: int = Field(default=10, ge=1, le=1_000_000, description="Steps between two logged losses.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of weights, data order and dropout.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto takes CUDA (NCCL) where a device is seen, else the CPU (Gloo)."
    )
    threads_per_process: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Intra-op CPU threads of each process. Part of what makes a CPU run repeat bit by bit.",
    )

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.model.gpt) == (self.data == 'python-text')",
            message="data python-text goes with model gpt, data digits with mlp or cnn",
        ),
        Rule(
            rule="self.schedule.warmupSteps <= self.steps",
            message="schedule.warmupSteps must not be more than steps",
        ),
    )

    @model_validator(mode="after")
    def _fits_together(self) -> TrainerSpec:
        if (self.model.gpt is not None) != (self.data == "python-text"):
            raise ValueError("data python-text goes with model gpt, data digits with mlp or cnn")
        if self.schedule.warmup_steps > self.steps:
            raise ValueError(
                f"schedule.warmupSteps must not be more than steps: {self.schedule.warmup_steps} > {self.steps}"
            )
        return self


# --- pod template --------------------------------------------------------------------------------------


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


_MOUNT_TAKEN = (
    f"volumeMounts of the trainer container must leave {CHECKPOINTS_PATH} and {TOKEN_DIRECTORY} to the operator; "
    "where checkpoints are stored is said in spec.checkpoint.storage"
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
            f"self.volumeMounts.all(m, !m.mountPath.matches('^({CHECKPOINTS_PATH}|{TOKEN_DIRECTORY})/*$'))",
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
            if mount.mount_path.rstrip("/") in (CHECKPOINTS_PATH, TOKEN_DIRECTORY):
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


# --- checkpoint and recovery ---------------------------------------------------------------------------


class StorageSpec(Model):
    """The volume that checkpoints live on."""

    size: Quantity = Field(default="10Gi", description="Size of the claim to create.")
    storage_class_name: DnsName | None = Field(
        default=None, description="StorageClass of the claim to create; the cluster's default when absent."
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = Field(
        default="ReadWriteOnce",
        description="Access mode of the claim to create. Workers on several nodes need ReadWriteMany, "
        "unless the volume is node-local and holds them together.",
    )
    claim_name: DnsName | None = Field(
        default=None, description="An existing claim to use instead of creating one. It is never deleted."
    )

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.claimName) || !has(self.storageClassName)",
            message="claimName names an existing claim: storageClassName cannot be set beside it",
        ),
    )

    @model_validator(mode="after")
    def _claim_or_class(self) -> StorageSpec:
        if self.claim_name is not None and self.storage_class_name is not None:
            raise ValueError("claimName names an existing claim: storageClassName cannot be set beside it")
        return self


class CheckpointSpec(Model):
    """When checkpoints are written, how many are kept, and where."""

    every_steps: int = Field(
        default=100,
        ge=0,
        le=1_000_000_000,
        description="Steps between two checkpoints; 0 turns this trigger off.",
    )
    every_seconds: int = Field(
        default=0, ge=0, le=86_400, description="Seconds between two checkpoints; 0 turns this trigger off."
    )
    keep: int = Field(default=2, ge=2, le=1000, description="Verified checkpoints to keep; never fewer than 2.")
    storage: StorageSpec = Field(default_factory=StorageSpec, description="The volume checkpoints live on.")
    retention: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description="Whether the claim outlives the job (Retain) or goes with it (Delete); set once.",
    )

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="self.retention != 'Delete' || !has(self.storage.claimName)",
            message="retention Delete is for claims the operator creates, not for storage.claimName",
        ),
    )

    @model_validator(mode="after")
    def _existing_claims_stay(self) -> CheckpointSpec:
        if self.retention == "Delete" and self.storage.claim_name is not None:
            raise ValueError("retention Delete is for claims the operator creates, not for storage.claimName")
        return self


class BackoffSpec(Model):
    """Delay before a crew that fails again and again without progress is started anew."""

    initial_seconds: int = Field(
        default=5,
        ge=0,
        le=3600,
        description="Delay after the second failure in a row without progress; the first has none.",
    )
    max_seconds: int = Field(default=300, ge=0, le=86_400, description="Longest delay; it doubles up to here.")

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="self.initialSeconds <= self.maxSeconds",
            message="initialSeconds must not be more than maxSeconds",
        ),
    )

    @model_validator(mode="after")
    def _ordered(self) -> BackoffSpec:
        if self.initial_seconds > self.max_seconds:
            raise ValueError(
                f"initialSeconds must not be more than maxSeconds: {self.initial_seconds} > {self.max_seconds}"
            )
        return self


class RecoverySpec(Model):
    """What is retried, and how often."""

    max_failures: int = Field(
        default=10, ge=0, le=100_000, description="Failures the job recovers from; one more fails it."
    )
    max_preemptions: int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        description="Preemptions, evictions and drains the job recovers from; one more fails it.",
    )
    backoff: BackoffSpec = Field(default_factory=BackoffSpec, description="Delay between failures without progress.")
    retryable_exit_codes: list[Annotated[int, Field(ge=1, le=255)]] = Field(
        default=[],
        max_length=64,
        description="If set, only these exit codes are retried. "
        "If empty, all are but 78 (configuration), 126 and 127 (command not executable, not found). "
        "A process ended by a signal (codes above 128) is always retried.",
    )


#: Fields of checkpoint that a worker is told at its start, and so is told anew only when its pod is.
_CHECKPOINT_TRIGGERS = tuple(
    f"checkpoint.{field.alias}"
    for name, field in CheckpointSpec.model_fields.items()
    if name not in ("storage", "retention")
)


class JobSpec(Model):
    """What to train, on how many workers, and how to go on after a fault."""

    workers: int = Field(default=1, ge=1, le=MAX_WORKERS, description="Worker pods.")
    processes_per_worker: int = Field(
        default=1, ge=1, le=64, description="Training processes (ranks) in each worker; usually one per GPU."
    )
    image: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        default=DEFAULT_IMAGE, description="Image of the trainer container."
    )
    template: PodTemplate = Field(default_factory=PodTemplate, description="Template of the worker pods.")
    trainer: TrainerSpec | None = Field(default=None, description="The built-in trainer. Either this or command.")
    command: list[Annotated[str, StringConstraints(min_length=1, max_length=MAX_COMMAND_BYTES)]] | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="A training command of your own, run once per process with torchrun's environment "
        "(RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT, ...). Either this or trainer. "
        f"At most {MAX_COMMAND_BYTES} bytes in all: longer scripts belong in the image or on a volume.",
    )
    checkpoint: CheckpointSpec = Field(default_factory=CheckpointSpec, description="Checkpoints and their volume.")
    recovery: RecoverySpec = Field(default_factory=RecoverySpec, description="What is retried, and how often.")
    suspend: bool = Field(
        default=False,
        description="Save, stop all workers and keep the claim; false again goes on from there.",
    )
    active_deadline_seconds: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="Seconds the job may be active before it fails; suspension stops the clock.",
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=2**31 - 1,
        description="Seconds after which a finished job is deleted; never when absent.",
    )

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.trainer) != has(self.command)",
            message="exactly one of trainer and command must be set",
        ),
        Rule(
            rule="!has(self.trainer) || self.trainer.globalBatchSize % "
            "(self.workers * self.processesPerWorker * self.trainer.accumulationSteps) == 0",
            message="trainer.globalBatchSize must be a multiple of workers x processesPerWorker x "
            "trainer.accumulationSteps",
        ),
        Rule(
            rule=f"!has(self.command) || self.command.map(word, size(bytes(word))).sum() <= {MAX_COMMAND_BYTES}",
            message=f"command must have at most {MAX_COMMAND_BYTES} bytes in all; put a longer script into the image "
            "or on a volume",
        ),
        Rule(
            rule="self.checkpoint.storage == oldSelf.checkpoint.storage",
            message="checkpoint.storage cannot be changed",
        ),
        Rule(
            rule="self.checkpoint.retention == oldSelf.checkpoint.retention",
            message="checkpoint.retention cannot be changed: it decides whether the claim has the job for its owner, "
            "and that is set when the claim is created",
        ),
        Rule(
            rule="has(self.trainer) == has(oldSelf.trainer)",
            message="a job cannot change between trainer and command",
        ),
        *(
            Rule(
                rule=f"oldSelf.suspend || self.{name} == oldSelf.{name}",
                message=f"{name} can be changed only while suspended",
            )
            for name in ("processesPerWorker", "image", "template", *_CHECKPOINT_TRIGGERS)
        ),
        *(
            Rule(
                rule=f"oldSelf.suspend || !has(self.{name}) || !has(oldSelf.{name}) || self.{name} == oldSelf.{name}",
                message=f"{name} can be changed only while suspended",
            )
            for name in ("trainer", "command")
        ),
    )

    @model_validator(mode="after")
    def _fits_together(self) -> JobSpec:
        if (self.trainer is None) == (self.command is None):
            raise ValueError("exactly one of trainer and command must be set")
        if self.command is not None:
            length = sum(len(word.encode()) for word in self.command)
            if length > MAX_COMMAND_BYTES:
                raise ValueError(
                    f"command must have at most {MAX_COMMAND_BYTES} bytes in all, got {length}; put a longer script "
                    "into the image or on a volume"
                )
        if self.trainer is not None:
            share = self.workers * self.processes_per_worker * self.trainer.accumulation_steps
            if self.trainer.global_batch_size % share:
                raise ValueError(
                    "trainer.globalBatchSize must be a multiple of workers x processesPerWorker x "
                    "trainer.accumulationSteps: "
                    f"{self.trainer.global_batch_size} is not a multiple of {share}"
                )
        return self


# --- status --------------------------------------------------------------------------------------------

Phase = Literal["Pending", "Starting", "Running", "Recovering", "Suspending", "Suspended", "Succeeded", "Failed"]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, max_length=64)]
#: A worker's place in the crew. Lost: counted, being replaced.
WorkerPhase = Literal["Absent", "Pending", "Running", "Lost", "Done"]


class Condition(Model):
    """A standard condition (metav1.Condition)."""

    type: Annotated[str, StringConstraints(max_length=316)] = Field(description="Kind of condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[
        str,
        StringConstraints(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"),
    ] = Field(description="Why, in one word.")
    message: LongText = Field(default="", description="Why, in words.")
    last_transition_time: Time = Field(description="When the status last changed.")
    observed_generation: int = Field(default=0, ge=0, description="metadata.generation this was true for.")


class WorkerStatus(Model):
    """One worker's place in the crew."""

    index: int = Field(ge=0, description="Worker index.")
    pod_uid: Text = Field(default="", description="UID of the pod that has this place.")
    phase: WorkerPhase = Field(default="Absent", description="Lost means counted and being replaced.")
    joined: int = Field(
        default=0,
        ge=0,
        description="Newest generation it took part in. A pod that ends before it joined the current one ended "
        "with the one before, and is not counted again.",
    )


class WorkersStatus(Model):
    """Workers wanted and there."""

    wanted: int = Field(default=0, ge=0, description="Workers the crew has when complete.")
    ready: int = Field(default=0, ge=0, description="Workers whose launcher is in the current generation.")
    members: list[WorkerStatus] = Field(default=[], max_length=MAX_WORKERS, description="Each worker's place.")


class IncidentStatus(Model):
    """The last fault of a kind, in words."""

    time: Time = Field(description="When it was noticed.")
    generation: int = Field(ge=0, description="Generation it ended.")
    worker: int = Field(default=-1, ge=-1, description="Worker it began in; -1 when unknown.")
    rank: int = Field(default=-1, ge=-1, description="Rank it began in; -1 when it was the whole worker.")
    exit_code: int = Field(default=-1, ge=-1, description="Exit code; -1 when there is none.")
    reason: Text = Field(description="Why, in one word.")
    message: LongText = Field(description="Why, in words.")
    traceback: LongText = Field(default="", description="Last lines of the traceback.")
    pod_uid: Text = Field(default="", description="UID of the pod it began in.")


class BudgetStatus(Model):
    """How many faults of a kind there were."""

    count: int = Field(default=0, ge=0, description="How many, over the life of the job.")
    last: IncidentStatus | None = Field(default=None, description="The newest one.")


class ProgressStatus(Model):
    """How far the training is."""

    step: int = Field(ge=0, description="Optimizer steps finished.")
    total_steps: int = Field(ge=0, description="Optimizer steps in all.")
    percent: int = Field(ge=0, le=100, description="Share of the steps finished.")
    epoch: str = Field(max_length=32, description="Epochs finished, as a decimal number.")
    loss: str = Field(max_length=32, description="Newest training loss, as a decimal number.")
    samples_per_second: str = Field(max_length=32, description="Throughput of the whole crew.")
    seconds_left: int = Field(ge=0, description="Estimate of the time left, in seconds.")
    evaluation: dict[str, Annotated[str, StringConstraints(max_length=32)]] = Field(
        default={}, max_length=32, description="Newest results on held-out data."
    )
    time: Time = Field(description="When this was reported.")


class CheckpointStatus(Model):
    """The newest verified checkpoint."""

    step: int = Field(ge=0, description="Step it was taken at.")
    name: Text = Field(description="Directory under the checkpoint root.")
    size_bytes: int = Field(ge=0, description="Size, in bytes.")
    time: Time = Field(description="When it was complete.")


class JobStatus(Model):
    """What became of the job. Everything the operator must remember is here; it has no other memory."""

    observed_generation: int = Field(default=0, ge=0, description="metadata.generation last acted on.")
    phase: Phase = Field(default="Pending", description="The job in one word.")
    conditions: list[Condition] = Field(
        default=[],
        max_length=16,
        description="Ready, Suspended, Degraded, StorageReady, Succeeded, Failed.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    generation: int = Field(default=0, ge=0, description="Number of the crew's current generation.")
    workers: WorkersStatus = Field(default_factory=WorkersStatus, description="Workers wanted and there.")
    workers_ready: Text = Field(default="", description="Ready and wanted workers, as kubectl shows them.")
    replicas: int = Field(default=0, ge=0, description="Worker pods that exist, for the scale subresource.")
    selector: Text = Field(default="", description="Label selector of the pods, for the scale subresource.")
    restarts: int = Field(default=0, ge=0, description="Times the crew was formed anew: failures and preemptions.")
    failures: BudgetStatus = Field(default_factory=BudgetStatus, description="Failures, against recovery.maxFailures.")
    preemptions: BudgetStatus = Field(
        default_factory=BudgetStatus,
        description="Preemptions and evictions, against recovery.maxPreemptions.",
    )
    unsettled: list[IncidentStatus] = Field(
        default=[],
        max_length=16,
        description="Faults counted as failures whose cause is not settled: the pod's own end may still make a "
        "preemption of one.",
    )
    spec_hash: Text = Field(default="", description="Fingerprint of the spec that the crew's pods are made from.")
    failures_without_progress: int = Field(default=0, ge=0, description="Failures since the job last got further.")
    furthest_step: int = Field(default=0, ge=0, description="Highest step reached before any failure so far.")
    not_before: Time | None = Field(default=None, description="Until when the next generation is held back.")
    progress: ProgressStatus | None = Field(default=None, description="How far the training is.")
    last_checkpoint: CheckpointStatus | None = Field(default=None, description="Newest verified checkpoint.")
    resumed_from_step: int | None = Field(default=None, ge=0, description="Step the current generation went on from.")
    start_time: Time | None = Field(default=None, description="When the job became active; set anew on resume.")
    completion_time: Time | None = Field(default=None, description="When the job finished.")


class ObjectMeta(Model):
    """metadata, as far as a manifest on a laptop needs it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")
    name: Annotated[str, StringConstraints(pattern=DNS_1035_LABEL, max_length=50)] = Field(
        description="Name; pods and services are named after it."
    )
    namespace: DnsLabel = Field(default="default", description="Namespace.")
    labels: dict[str, str] = Field(default={}, description="Labels.")
    annotations: dict[str, str] = Field(default={}, description="Annotations.")
    uid: str = Field(default="", description="Set by the API server.")
    generation: int = Field(default=1, description="Set by the API server.")


class DistributedTrainingJob(Model):
    """A training run on several workers that goes on when some of them die."""

    api_version: Literal["rowlock.dev/v1alpha1"] = Field(description="rowlock.dev/v1alpha1")
    kind: Literal["DistributedTrainingJob"] = Field(description="DistributedTrainingJob")
    metadata: ObjectMeta = Field(description="Standard object metadata.")
    spec: JobSpec = Field(description="What to train.")
    status: JobStatus = Field(default_factory=JobStatus, description="What became of it.")
