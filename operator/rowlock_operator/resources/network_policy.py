"""The NetworkPolicy that keeps everybody but the crew itself away from a crew.

gloo, NCCL and torch's store believe whoever connects to them, so who reaches a worker's ports is part of the crew. Of
what else must reach a worker, probes and `kubectl exec` come from its node, which no policy shuts out, and orders come
as answers on a connection that the worker itself opened. Who scrapes workers, or looks at a dashboard in one, needs a
policy of their own beside this one: what policies let in adds up.

Only the way in is closed. Training reaches out for data sets, object stores, trackers and names, and where these are no
operator knows.
"""

from __future__ import annotations

from typing import Any

from rowlock_operator.core.model import Job
from rowlock_operator.resources.names import LABEL_JOB, metadata, policy_name


def build_network_policy(job: Job) -> dict[str, Any]:
    """Return the NetworkPolicy of `job`: into its pods from its pods, in its own namespace, on any port.

    The label says whose a pod is. A template cannot say otherwise, because the operator's labels win.
    """
    crew = {"podSelector": {"matchLabels": {LABEL_JOB: job.name}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(job, policy_name(job.name)),
        "spec": {**crew, "policyTypes": ["Ingress"], "ingress": [{"from": [crew]}]},
    }
