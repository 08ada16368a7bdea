"""spec.trainer: the built-in trainer's model, data, optimizer and schedule."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import (
    Field,
    model_validator,
)

from rowlock.api.v1alpha1.base import (
    Model,
    Rule,
)


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
