"""What a worker is told at its start: the spec in the words of the protocol.

Both places a job can run in use it, pods through an environment variable and processes on a laptop, so
that the same manifest means the same run.
"""

from __future__ import annotations

from rowlock.api.v1alpha1 import JobSpec, ModelSpec, OptimizerSpec, TrainerSpec
from rowlock.protocol import (
    CheckpointConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainerConfig,
    WorkerConfig,
)


def worker_config(
    spec: JobSpec, *, namespace: str, name: str, uid: str, worker: int, checkpoint_directory: str
) -> WorkerConfig:
    """Return the configuration of one worker.

    Args:
        spec: The job's spec, defaults filled in.
        namespace: The job's namespace.
        name: The job's name.
        uid: The job's UID, which tells apart jobs that share a name.
        worker: Index of the worker, from 0.
        checkpoint_directory: Directory of this job's checkpoints as the worker sees it.
    """
    return WorkerConfig(
        job=name,
        namespace=namespace,
        job_uid=uid,
        worker=worker,
        workers=spec.workers,
        processes_per_worker=spec.processes_per_worker,
        checkpoint=CheckpointConfig(
            directory=checkpoint_directory,
            every_steps=spec.checkpoint.every_steps,
            every_seconds=float(spec.checkpoint.every_seconds),
            keep=spec.checkpoint.keep,
        ),
        trainer=None if spec.trainer is None else _trainer(spec.trainer),
        command=tuple(spec.command or ()),
        grace_seconds=float(spec.template.spec.termination_grace_period_seconds),
    )


def _trainer(trainer: TrainerSpec) -> TrainerConfig:
    return TrainerConfig(
        model=_model(trainer.model),
        data=trainer.data,
        global_batch_size=trainer.global_batch_size,
        steps=trainer.steps,
        optimizer=_optimizer(trainer.optimizer),
        schedule=ScheduleConfig(
            name=trainer.schedule.name,
            warmup_steps=trainer.schedule.warmup_steps,
            final_factor=trainer.schedule.final_factor,
        ),
        accumulation_steps=trainer.accumulation_steps,
        gradient_clip_norm=trainer.gradient_clip_norm,
        evaluate_every_steps=trainer.evaluate_every_steps,
        log_every_steps=trainer.log_every_steps,
        seed=trainer.seed,
        device=trainer.device,
        threads_per_process=trainer.threads_per_process,
    )


def _model(model: ModelSpec) -> ModelConfig:
    if model.mlp is not None:
        return ModelConfig("mlp", hidden=tuple(model.mlp.hidden), dropout=model.mlp.dropout)
    if model.cnn is not None:
        return ModelConfig("cnn", channels=tuple(model.cnn.channels), dropout=model.cnn.dropout)
    if model.gpt is not None:
        gpt = model.gpt
        return ModelConfig(
            "gpt",
            layers=gpt.layers,
            heads=gpt.heads,
            width=gpt.width,
            context=gpt.context,
            dropout=gpt.dropout,
        )
    raise ValueError("trainer.model: exactly one of mlp, cnn and gpt must be set, got none")


def _optimizer(optimizer: OptimizerSpec) -> OptimizerConfig:
    if optimizer.sgd is not None:
        sgd = optimizer.sgd
        return OptimizerConfig("sgd", sgd.learning_rate, momentum=sgd.momentum, weight_decay=sgd.weight_decay)
    if optimizer.adamw is not None:
        adamw = optimizer.adamw
        return OptimizerConfig(
            "adamw",
            adamw.learning_rate,
            weight_decay=adamw.weight_decay,
            betas=(adamw.beta1, adamw.beta2),
            eps=adamw.eps,
        )
    raise ValueError("trainer.optimizer: exactly one of sgd and adamw must be set, got none")
