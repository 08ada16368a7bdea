"""What the coordinator and the launchers say to each other, and what a worker is told at its start.

The two sides never import each other; this page is all they share. It is plain dataclasses and JSON so
that a worker's image needs nothing but pure Python beside torch: no pydantic, no client.

Every message carries *the whole state of its sender*, never a change of it. A lost, repeated or late
message is then harmless: the next one says everything again. That is what lets the coordinator be killed
at any moment and rebuild the crew from what the launchers say when they come back.

What a launcher says ends up in the resource's status, where a number out of range (a year 60,000, a step of
minus nine) could not be written and would hold the whole job up. So each type states what its numbers may be
and refuses all else, by field and value, where it is made: on the way in that becomes a `ProtocolError` and
costs the sender its session, nobody else anything.

The wire is one WebSocket a launcher: ``GET /v1alpha1/jobs/{namespace}/{name}/workers/{worker}`` with
``Authorization: Bearer <job token>``. The launcher's first message is a `Hello`, every later one a
`Report`; the coordinator sends `Order`s.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, TypeVar

import cattrs

PROTOCOL_VERSION = 1
#: Oldest version that an operator still speaks. A crew trains on through an upgrade of the operator, so this is the
#: version of the release before, at the latest.
OLDEST_PROTOCOL_VERSION = 1
#: Longest message either side accepts, in bytes: a report with tracebacks of every rank fits with room to spare.
MAX_MESSAGE_BYTES = 1 << 20
#: A launcher that has not been heard for this long is out of the crew, in seconds.
LEASE_SECONDS = 15.0
#: How often a launcher reports when nothing changes, in seconds: several reports fit one lease.
HEARTBEAT_SECONDS = 3.0
#: Characters of a traceback that travel and end up in status.
TRACEBACK_CHARS = 2000
#: Characters of a reason, which is one line of a status, that travel.
REASON_CHARS = 500
#: Characters of a notice's message that travel; an Event holds 1024 bytes.
NOTICE_CHARS = 1000
#: Largest count on the wire: the largest whole number that every reader of JSON holds exactly (RFC 8259, 6).
MAX_COUNT = 2**53
#: Unix time of the end of the year 9999, in seconds: later moments have no RFC 3339 timestamp.
MAX_TIME = 253_402_300_799
_MAX_EXIT_CODE = 255


class ExitCode(IntEnum):
    """What a rank or a launcher says by its exit code; the values follow sysexits.h where one fits."""

    DONE = 0
    FAILED = 1
    #: The volume is full or does not take writes (EX_IOERR).
    STORAGE = 74
    #: SIGTERM came, the state was saved, nothing is wrong: start it again (EX_TEMPFAIL).
    SAVED = 75
    #: A peer went away in the middle of a collective: the cause lies elsewhere (EX_PROTOCOL).
    PEER_LOST = 76
    #: The job cannot run as it is written; another try would end the same (EX_CONFIG).
    CONFIG = 78
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127


#: Codes that another try cannot mend, whatever the budget.
FINAL_EXIT_CODES = frozenset({ExitCode.CONFIG, ExitCode.NOT_EXECUTABLE, ExitCode.NOT_FOUND})


def check_count(name: str, value: int, least: int, most: int = MAX_COUNT) -> None:
    """Raise ValueError unless `value` is in [least, most]."""
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}, must be from {least} to {most}")


def _time(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a Unix time that a timestamp can be made of."""
    if not 0 <= value <= MAX_TIME:
        raise ValueError(f"{name} is {value}, must be seconds since 1970, before the year 10000")


@dataclass(frozen=True)
class Progress:
    """How far the crew is; rank 0's view is the job's. Loss, throughput and time left may be no number.

    Raises:
        ValueError: A count, the epoch or the time is out of range.
    """

    step: int
    total_steps: int
    epoch: float
    loss: float
    samples_per_second: float
    #: Estimate of the time left, in seconds.
    seconds_left: float
    #: Unix time, in seconds.
    time: float
    #: Newest result on the held-out data, by metric name (``loss``, ``accuracy``).
    evaluation: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_count("step", self.step, -1)
        check_count("total_steps", self.total_steps, 0)
        if not 0 <= self.epoch < math.inf:
            raise ValueError(f"epoch is {self.epoch}, must be a finite number of at least 0")
        _time("time", self.time)


@dataclass(frozen=True)
class CheckpointNote:
    """One verified checkpoint on the job's volume. Raises ValueError when a number is out of range."""

    step: int
    generation: int
    size_bytes: int
    #: Unix time of its manifest, in seconds.
    time: float
    #: Directory name under the checkpoint root.
    name: str

    def __post_init__(self) -> None:
        check_count("step", self.step, -1)
        check_count("generation", self.generation, 0)
        check_count("size_bytes", self.size_bytes, 0)
        _time("time", self.time)


@dataclass(frozen=True)
class RankExit:
    """One rank process that ended other than by finishing. Raises ValueError when a number is out of range."""

    rank: int
    #: Exit code; ``128 + signal`` when a signal ended it.
    code: int
    #: Last step the rank had finished, -1 when it never got that far.
    step: int
    #: One line in words.
    reason: str
    #: Unix time, in seconds.
    time: float
    #: Last lines of the traceback, at most `TRACEBACK_CHARS`.
    traceback: str = ""

    def __post_init__(self) -> None:
        check_count("rank", self.rank, 0)
        check_count("code", self.code, 0, _MAX_EXIT_CODE)
        check_count("step", self.step, -1)
        _time("time", self.time)


@dataclass(frozen=True)
class Notice:
    """Something a person should see as an Event; told once per `id`."""

    id: str
    kind: Literal["CheckpointRejected", "CheckpointFailed", "Resumed", "Warning"]
    #: At most `NOTICE_CHARS`; a sender shortens what is longer.
    message: str


RankPhase = Literal["idle", "starting", "ready", "running", "done", "ended"]
OrderPhase = Literal["hold", "run", "save", "leave"]


@dataclass(frozen=True)
class Hello:
    """First message of a launcher. Raises ValueError when `worker` is out of range."""

    protocol: int
    worker: int
    #: UID of the pod (local backend: of the process that stands for it).
    pod_uid: str
    #: Host name or address under which the other workers reach this one.
    address: str

    def __post_init__(self) -> None:
        check_count("worker", self.worker, 0)


@dataclass(frozen=True)
class Report:
    """The whole state of one launcher. Raises ValueError when a number is out of range."""

    #: Generation its ranks belong to; 0 before the first.
    generation: int = 0
    #: ``idle`` no ranks; ``starting`` being forked; ``ready`` waiting for the store; ``running``;
    #: ``done`` all ended with 0; ``ended`` at least one ended otherwise, see `exits`.
    phase: RankPhase = "idle"
    #: ``host:port`` of the rendezvous store of this generation; only worker 0 has one.
    store: str = ""
    exits: tuple[RankExit, ...] = ()
    progress: Progress | None = None
    #: Checkpoint a crew would go on from now. It may go back in step: after a newer one was found to be bad.
    checkpoint: CheckpointNote | None = None
    #: Step this generation went on from; -1 before that is known, 0 for a fresh start.
    resumed_from: int = -1
    notices: tuple[Notice, ...] = ()
    #: SIGTERM came to this launcher: its ranks are saving, it will go.
    leaving: bool = False

    def __post_init__(self) -> None:
        check_count("generation", self.generation, 0)
        check_count("resumed_from", self.resumed_from, -1)


@dataclass(frozen=True)
class Order:
    """What the crew is to do now.

    ``hold``: stop ranks of older generations, start none. ``run``: be in this generation: stop older
    ranks, start these, and hand them `store` once it is known. ``save``: save at the next agreed step
    and end the ranks with `ExitCode.SAVED`. ``leave``: end the launcher; there is nothing more to do.
    """

    generation: int
    phase: OrderPhase
    workers: int
    processes_per_worker: int
    #: Empty until every launcher is ready for this generation.
    store: str = ""
    #: UID of the pod that holds each worker's place, "" for a place that is empty. A launcher whose own
    #: UID is not at its index holds its ranks still whatever the phase: it is a zombie, or early.
    members: tuple[str, ...] = ()
    #: Why, in words, for the logs.
    reason: str = ""

    def __post_init__(self) -> None:
        check_count("generation", self.generation, 0)


@dataclass(frozen=True)
class ModelConfig:
    """Which model; options that do not belong to `name` are ignored (the resource refuses them)."""

    name: Literal["mlp", "cnn", "gpt"]
    hidden: tuple[int, ...] = (128, 64)
    channels: tuple[int, ...] = (16, 32)
    layers: int = 2
    heads: int = 4
    width: int = 64
    context: int = 64
    dropout: float = 0.0


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer and its hyperparameters, as torch.optim names them."""

    name: Literal["sgd", "adamw"]
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning-rate schedule as a factor on the base rate."""

    name: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    #: Factor reached at the last step.
    final_factor: float = 0.0


@dataclass(frozen=True)
class TrainerConfig:
    """The built-in trainer's part of a job, defaults filled in."""

    model: ModelConfig
    data: Literal["digits", "python-text"]
    #: Samples per optimizer step over the whole crew.
    global_batch_size: int
    #: Optimizer steps in all.
    steps: int
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    accumulation_steps: int = 1
    #: 0 turns clipping off.
    gradient_clip_norm: float = 0.0
    #: 0 evaluates at the end only.
    evaluate_every_steps: int = 0
    log_every_steps: int = 10
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads_per_process: int = 1


@dataclass(frozen=True)
class CheckpointConfig:
    """When and where checkpoints are written; 0 turns a trigger off."""

    directory: str
    every_steps: int = 0
    every_seconds: float = 0.0
    keep: int = 2


@dataclass(frozen=True)
class WorkerConfig:
    """All that a launcher is told at its start, in ``ROWLOCK_CONFIG``. It holds no secret."""

    job: str
    namespace: str
    job_uid: str
    worker: int
    workers: int
    processes_per_worker: int
    checkpoint: CheckpointConfig
    #: Exactly one of `trainer` and `command` is set.
    trainer: TrainerConfig | None = None
    command: tuple[str, ...] = ()
    #: Seconds between SIGTERM and SIGKILL that the ranks may use to save.
    grace_seconds: float = 30.0


#: Environment of a launcher. The token's *file* is named, never the token.
ENV_CONFIG = "ROWLOCK_CONFIG"
ENV_COORDINATOR = "ROWLOCK_COORDINATOR"  # http://host:port
ENV_TOKEN_FILE = "ROWLOCK_TOKEN_FILE"  # noqa: S105 (a path, no secret)
ENV_POD_UID = "ROWLOCK_POD_UID"
ENV_ADDRESS = "ROWLOCK_ADDRESS"
#: Fault injection: ``kill@STEP`` ends this worker with SIGKILL when it has finished STEP.
ENV_FAULT = "ROWLOCK_FAULT"

T = TypeVar("T")

_converter = cattrs.Converter(forbid_extra_keys=False)


class ProtocolError(ValueError):
    """A message that does not fit its type. The sender is at fault or of another version."""


def _strict_int(value: object, _: type) -> int:
    """Refuse what JSON would let through: text for a number, true for 1, 1.9 for 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected a whole number, got {value!r}")
    return value


def _strict_float(value: object, _: type) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"expected a number, got a whole one of {len(str(value))} digits") from None


def _strict_str(value: object, _: type) -> str:
    """Return text that can be written as UTF-8: JSON lets half a surrogate pair through, nothing else does."""
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value.encode("utf-8", "replace").decode()


def _strict_bool(value: object, _: type) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {value!r}")
    return value


_converter.register_structure_hook(int, _strict_int)
_converter.register_structure_hook(float, _strict_float)
_converter.register_structure_hook(str, _strict_str)
_converter.register_structure_hook(bool, _strict_bool)


def encode(message: object) -> str:
    """Return a message as one line of JSON."""
    return json.dumps(_converter.unstructure(message), separators=(",", ":"))


def decode(text: str | bytes, kind: type[T]) -> T:
    """Return the message of type `kind` that `text` holds.

    Unknown fields are ignored, so that a newer peer can say more. Raises `ProtocolError` when a field is
    missing, of the wrong type or out of range, naming it.
    """
    if len(text) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"{kind.__name__}: {len(text)} bytes, more than {MAX_MESSAGE_BYTES}")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{kind.__name__}: is not readable as JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ProtocolError(f"{kind.__name__}: expected an object, got {type(fields).__name__}")
    try:
        return _converter.structure(fields, kind)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, cattrs.BaseValidationError) as error:
        raise ProtocolError(f"{kind.__name__}: {_words(error)}") from error


def _words(error: BaseException) -> str:
    detail = "; ".join(cattrs.transform_error(error, "$", _one_in_words))
    return detail if len(detail) <= NOTICE_CHARS else f"{detail[:NOTICE_CHARS]}..."


def _one_in_words(error: BaseException, kind: type | None) -> str:
    """Let our own errors speak for themselves; the library would only name the type it expected."""
    told = isinstance(error, (ValueError, TypeError)) and bool(str(error))
    return str(error) if told else cattrs.v.format_exception(error, kind)


def shortened(text: str, most: int) -> str:
    """Return `text` in at most `most` characters, its end cut where it is longer, and the cut shown."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
