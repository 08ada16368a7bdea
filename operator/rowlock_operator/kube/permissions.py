"""What the operator may do at the API server: the one source of its roles.

The chart's roles and the tests' service accounts are held equal to this, so a request that needs more fails in a test
and not in somebody's cluster. What is not here is not needed: Secrets are neither listed nor watched, nothing of a
job is updated but its status, and no finalizer is written.
"""

from __future__ import annotations

from typing import Any

Rule = dict[str, Any]

#: In every namespace whose jobs it serves.
JOB_RULES: tuple[Rule, ...] = (
    {
        "apiGroups": ["rowlock.dev"],
        "resources": ["distributedtrainingjobs"],
        "verbs": ["get", "list", "watch", "delete"],
    },
    {"apiGroups": ["rowlock.dev"], "resources": ["distributedtrainingjobs/status"], "verbs": ["patch"]},
    # To own objects with blockOwnerDeletion where the API server checks that right; none is written.
    {"apiGroups": ["rowlock.dev"], "resources": ["distributedtrainingjobs/finalizers"], "verbs": ["update"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "create", "delete"]},
    {
        "apiGroups": [""],
        "resources": ["services", "persistentvolumeclaims"],
        "verbs": ["get", "list", "watch", "create"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
)

#: In the same namespaces, and only with `--isolate-jobs`. Policies are looked up by name and never changed.
ISOLATION_RULES: tuple[Rule, ...] = (
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "create"]},
)


def leader_rules(*, lease: str, service: str) -> tuple[Rule, ...]:
    """Return the rules of the namespace that the operator itself runs in, for leader election.

    `create` stands alone: RBAC cannot restrict it by name, because an object has none before it is there.

    Args:
        lease: Name of the Lease.
        service: Name of the coordinator's Service, which its EndpointSlice shares.
    """
    return (
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [lease],
            "verbs": ["get", "update"],
        },
        # Read for its UID: the EndpointSlice belongs to it, and goes with it.
        {"apiGroups": [""], "resources": ["services"], "resourceNames": [service], "verbs": ["get"]},
        # `restricted` is no resource: OpenShift's admission asks for this right where a slice, new or changed, holds an
        # address of the pod network, and the leader's is one. Elsewhere nobody asks.
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices", "endpointslices/restricted"],
            "verbs": ["create"],
        },
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "resourceNames": [service],
            "verbs": ["get", "update"],
        },
    )
