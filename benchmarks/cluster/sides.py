"""The rivals: what each is to the cluster, and where it can be seen to come back.

All run 4 workers of one rank each, in the same image, with the same resources and the same kind of volume. The two
that run a script run the same file (benchmarks/scripts/ddp_loop.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cluster.phases import SCRIPT_PHASES, TRAINER_PHASES
from rowlock.api.v1alpha1 import CHECKPOINTS_PATH
from tests.e2e.jobs import RESOURCES
from tests.e2e.site import TRAINER_IMAGE
from tests.support.kube_api import JsonObject
from tests.support.restricted import run_once

WORKERS = 4
JOB = "crew"
SCRIPT = Path(__file__).parents[1] / "scripts" / "ddp_loop.py"
_SCRIPTS_PATH = "/bench"
#: More steps than any run of the benchmark takes.
_ENDLESS = 10_000_000
_ROWLOCK = "/apis/rowlock.dev/v1alpha1/namespaces/{namespace}/distributedtrainingjobs"
_JOBSET = "/apis/jobset.x-k8s.io/v1alpha2/namespaces/{namespace}/jobsets"
#: What its documentation offers for noticing lost agents sooner and waiting less for late ones.
TUNED = "keep_alive_interval=1,keep_alive_max_attempt=2,last_call_timeout=1"


@dataclass(frozen=True)
class Side:
    """One of the rivals."""

    key: str
    title: str
    #: Collection of its job, with {namespace} in it.
    path: str
    #: The job itself.
    body: JsonObject
    #: Claim that its records are on, and where on it.
    claim: str
    records: str
    pattern: str
    #: Field of status that counts how often the crew was formed.
    number: str
    #: Label of a pod that tells which worker it is.
    worker_label: str
    phases: tuple[tuple[str, str], ...]
    creates_claim: bool = False

    @property
    def is_peer(self) -> bool:
        """Whether it is another project's."""
        return self.creates_claim


def script_config_map() -> JsonObject:
    """The script, as both kinds of job mount it."""
    return {"metadata": {"name": "script"}, "data": {SCRIPT.name: SCRIPT.read_text()}}


def claim() -> JsonObject:
    """A claim like the one that the operator creates."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "64Mi"}}}
    return {"metadata": {"name": "records"}, "spec": spec}


def rowlock_script() -> Side:
    """A script of one's own under Rowlock."""
    script = f"{_SCRIPTS_PATH}/{SCRIPT.name}"
    return _rowlock(
        "rowlock_script",
        "Rowlock, script",
        {"command": ["python3", script, f"{CHECKPOINTS_PATH}/{JOB}"]},
        "rank-*.jsonl",
        SCRIPT_PHASES,
    )


def rowlock_trainer() -> Side:
    """Rowlock's own trainer on the example's digits."""
    trainer = {
        "model": {"cnn": {"channels": [16, 32]}},
        "data": "digits",
        "globalBatchSize": 128,
        "steps": _ENDLESS,
        "logEverySteps": 1,
    }
    return _rowlock(
        "rowlock_trainer", "Rowlock, built-in trainer", {"trainer": trainer}, "metrics.jsonl", TRAINER_PHASES
    )


def _rowlock(key: str, title: str, what: JsonObject, pattern: str, phases: tuple[tuple[str, str], ...]) -> Side:
    container = {
        "name": "trainer",
        "resources": RESOURCES,
        "volumeMounts": [{"name": "script", "mountPath": _SCRIPTS_PATH}],
    }
    spec = {
        "workers": WORKERS,
        **what,
        "checkpoint": {
            "everySteps": 20,
            "storage": {"size": "64Mi", "accessMode": "ReadWriteMany"},
            "retention": "Delete",
        },
        "template": {"spec": {"containers": [container], "volumes": [_script_volume()]}},
    }
    body = {"apiVersion": "rowlock.dev/v1alpha1", "kind": "DistributedTrainingJob", "spec": spec}
    return Side(
        key=key,
        title=title,
        path=_ROWLOCK,
        body={**body, "metadata": {"name": JOB}},
        claim=f"{JOB}-checkpoints",
        records=JOB,
        pattern=pattern,
        number="generation",
        worker_label="rowlock.dev/worker",
        phases=phases,
    )


def jobset(key: str, title: str, rendezvous: Sequence[str] = ()) -> Side:
    """A JobSet of torchrun agents that is recreated when a pod is lost.

    Args:
        key: Name in the JSON.
        title: Name in the table.
        rendezvous: Options for --rdzv-conf, beside the one that says where the store is.
    """
    # Who holds the store is said outright: left to itself torchrun compares the endpoint with its own names, and
    # gives up if the cluster's name service does not know them yet.
    options = ",".join(["is_host=$(test $JOB_COMPLETION_INDEX = 0 && echo 1 || echo 0)", *rendezvous])
    command = (
        f"exec python3 -m torch.distributed.run --nnodes={WORKERS} --nproc-per-node=1 --rdzv-backend=c10d "
        f"--rdzv-id={JOB} --rdzv-endpoint={JOB}-workers-0-0.{JOB}:29400 --rdzv-conf={options} "
        f"{_SCRIPTS_PATH}/{SCRIPT.name} {CHECKPOINTS_PATH}"
    )
    job = {
        "parallelism": WORKERS,
        "completions": WORKERS,
        "backoffLimit": 0,
        "template": {"spec": _peer_pod(command)},
    }
    spec = {
        "failurePolicy": {"maxRestarts": 1000, "restartStrategy": "Recreate"},
        "network": {"enableDNSHostnames": True},
        "replicatedJobs": [{"name": "workers", "replicas": 1, "template": {"spec": job}}],
    }
    body = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": JOB}, "spec": spec}
    return Side(
        key=key,
        title=title,
        path=_JOBSET,
        body=body,
        claim="records",
        records=".",
        pattern="rank-*.jsonl",
        number="restarts",
        worker_label="batch.kubernetes.io/job-completion-index",
        phases=SCRIPT_PHASES,
        creates_claim=True,
    )


def _peer_pod(command: str) -> JsonObject:
    """The same pod as Rowlock makes, with another process in it."""
    container: dict[str, Any] = {
        "name": "trainer",
        "image": TRAINER_IMAGE,
        "command": ["sh", "-c", command],
        "env": [{"name": "HOME", "value": "/tmp"}, {"name": "OMP_NUM_THREADS", "value": "1"}],  # noqa: S108 (an emptyDir)
        "resources": RESOURCES,
        "volumeMounts": [
            {"name": "script", "mountPath": _SCRIPTS_PATH},
            {"name": "records", "mountPath": CHECKPOINTS_PATH},
        ],
    }
    return run_once(
        container, [_script_volume(), {"name": "records", "persistentVolumeClaim": {"claimName": "records"}}]
    )


def _script_volume() -> JsonObject:
    return {"name": "script", "configMap": {"name": "script"}}
