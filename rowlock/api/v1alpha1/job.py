"""The spec as a whole, and the resource itself."""

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
    DEFAULT_IMAGE,
    DNS_1035_LABEL,
    MAX_COMMAND_BYTES,
    MAX_WORKERS,
    DnsLabel,
    Model,
    Rule,
)
from rowlock.api.v1alpha1.policy import CheckpointSpec, RecoverySpec
from rowlock.api.v1alpha1.status import (
    JobStatus,
)
from rowlock.api.v1alpha1.template import (
    PodTemplate,
)
from rowlock.api.v1alpha1.trainer import (
    TrainerSpec,
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
