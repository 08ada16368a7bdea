"""spec.checkpoint and spec.recovery: what is kept, and what is tried again."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import (
    Field,
    model_validator,
)

from rowlock.api.v1alpha1.base import (
    DnsName,
    Model,
    Quantity,
    Rule,
)


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
