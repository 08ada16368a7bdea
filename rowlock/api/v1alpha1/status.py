"""status: what became of a job, and all that the operator must remember of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    StringConstraints,
)

from rowlock.api.v1alpha1.base import (
    MAX_WORKERS,
    LongText,
    Model,
    Text,
)

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
    removing: bool = Field(
        default=False,
        description="The operator is deleting the pod, which said nothing: whether it goes tells a dead node from a "
        "failure.",
    )


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
    launcher_image: Text = Field(
        default="",
        description="Image that the launchers of the whole crew are copied from where spec.image has none.",
    )
    failures_without_progress: int = Field(default=0, ge=0, description="Failures since the job last got further.")
    furthest_step: int = Field(default=0, ge=0, description="Highest step reached before any failure so far.")
    not_before: Time | None = Field(default=None, description="Until when the next generation is held back.")
    progress: ProgressStatus | None = Field(default=None, description="How far the training is.")
    last_checkpoint: CheckpointStatus | None = Field(default=None, description="Newest verified checkpoint.")
    resumed_from_step: int | None = Field(default=None, ge=0, description="Step the current generation went on from.")
    start_time: Time | None = Field(default=None, description="When the job became active; set anew on resume.")
    completion_time: Time | None = Field(default=None, description="When the job finished.")
