"""The operator's role is as narrow as what it does: what it asked for, by the API server's own audit log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rowlock_operator.kube.permissions import ISOLATION_RULES, JOB_RULES, leader_rules
from tests.e2e.jobs import Job, crew_spec
from tests.e2e.scene import STEP, patch
from tests.e2e.site import RELEASE, SYSTEM
from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from tests.e2e.scene import Scene
    from tests.e2e.site import Site
    from tests.support.kube_api import JsonObject

#: (API group, resource with subresource, verb)
Request = tuple[str, str, str]
#: Annotation by which the audit log says what the authorizers decided.
DECISION = "authorization.k8s.io/decision"
#: Not a request: the API server asks whether the caller has this right when an object is given an owner that its
#: deletion waits for, where the admission plugin OwnerReferencesPermissionEnforcement is on.
OWNER_RIGHT: Request = ("rowlock.dev", "distributedtrainingjobs/finalizers", "update")
#: Nor is this: OpenShift asks for it when a slice is given an address of the pod network.
ADDRESS_RIGHT: Request = ("discovery.k8s.io", "endpointslices/restricted", "create")


def test_the_role_grants_what_the_operator_does_and_nothing_else(scene: Scene) -> None:
    # With all that can be asked of it: in the log is also what it did while earlier tests asked for it.
    with scene.site.isolating():
        # An operator that is being uninstalled may lose its role before it ends: what it was refused then is no matter.
        before = len(audited(scene.site))
        eventful(scene)
        hold_to_the_rules(scene, before)


def hold_to_the_rules(scene: Scene, before: int) -> None:
    """What was asked for is what is granted, no less and no more; the log's entries `before` are of earlier tests."""
    rules = [*JOB_RULES, *ISOLATION_RULES, *leader_rules(lease=f"{RELEASE}-operator", service=f"{RELEASE}-coordinator")]
    granted = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    def unused() -> set[Request]:
        return granted - requests(scene.site) - {OWNER_RIGHT, ADDRESS_RIGHT}

    wait_until(lambda: not unused() or seen_all(scene), 60, "the operator has done what it does")
    assert unused() == set(), "granted, but never used"
    assert requests(scene.site) - granted == set(), "used, but not granted"
    # By a role, that is. Admission refuses too, where a namespace is being deleted or a pod is too free for it.
    refused = [entry for entry in audited(scene.site)[before:] if entry["annotations"][DECISION] != "allow"]
    assert [(entry["verb"], entry["requestURI"]) for entry in refused] == []


def eventful(scene: Scene) -> None:
    """Lead the operator through all that it asks the API server for."""
    site, namespace = scene.site, scene.namespace
    # A claim that a person made, a service in the way, and a finished job that is to be deleted.
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "64Mi"}}}
    site.api.create(
        f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", {"metadata": {"name": "own"}, "spec": claim}
    ).ok()
    ports = [{"port": 1}]
    blocker = {"metadata": {"name": "blocked"}, "spec": {"ports": ports}}
    site.api.create(f"/api/v1/namespaces/{namespace}/services", blocker).ok()
    blocked = Job.apply(site, namespace, crew_spec(), "blocked")
    wait_until(lambda: "CreateServiceRefused" in blocked.events(), 60, "the service in the way is told")
    # The same told twice is one event whose count is raised.
    for _ in range(2):
        patch(blocked, {"suspend": True})
        blocked.until_phase("Suspended")
        patch(blocked, {"suspend": False})
        blocked.until_phase("Pending")
    own = {"storage": {"claimName": "own", "size": None}}
    job = scene.apply(endless=True, ttlSecondsAfterFinished=0, checkpoint=own)
    job.until_step(STEP)
    # Its labels gone, the pod is looked up by name when its successor finds the name taken.
    site.cluster.kubectl("label", "pod", "-n", namespace, "crew-worker-1", "rowlock.dev/job-")
    wait_until(lambda: (job.body() or {}).get("status", {}).get("generation", 0) > 1, 120, "the pod is replaced")
    site.cluster.kubectl("delete", "-n", namespace, "dtj", "blocked", "--timeout=60s")
    scene.end(job)
    wait_until(lambda: job.body() is None, 240, "the finished job is deleted")


def seen_all(scene: Scene) -> bool:
    """There is nothing more to wait for; written requests are in the log before they are answered."""
    return not scene.site.api.get(f"/api/v1/namespaces/{scene.namespace}/pods").ok()["items"]


def audited(site: Site) -> list[JsonObject]:
    """What the operator's service account asked for, since the cluster was started."""
    user = f"system:serviceaccount:{SYSTEM}:{RELEASE}-operator"
    with site.cluster.audit_log.open() as lines:
        # Most lines are others': look at the name before reading the line as JSON.
        entries = [json.loads(line) for line in lines if user in line]
    return [entry for entry in entries if entry["user"]["username"] == user and "objectRef" in entry]


def requests(site: Site) -> set[Request]:
    """The same as group, resource and verb."""
    found = set()
    for entry in audited(site):
        target = entry["objectRef"]
        resource = target["resource"] + (f"/{target['subresource']}" if target.get("subresource") else "")
        found.add((target.get("apiGroup", ""), resource, entry["verb"]))
    return found
