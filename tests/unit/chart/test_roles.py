"""The operator may do what its permissions say and nothing else, where it serves jobs and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rowlock_operator.kube.permissions import ISOLATION_RULES, JOB_RULES, leader_rules
from tests.support.charts import NAMESPACE, VALUES, objects, of_kind, render

if TYPE_CHECKING:
    from tests.support.kube_api import JsonObject

OWN = {"kind": "ServiceAccount", "name": "rowlock-operator", "namespace": NAMESPACE}
CLUSTER_KINDS = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}


def named(bodies: list[JsonObject], kind: str, name: str, namespace: str | None = None) -> JsonObject:
    (found,) = (
        body
        for body in of_kind(bodies, kind)
        if body["metadata"]["name"] == name and body["metadata"].get("namespace") == namespace
    )
    return found


def rules_bound(bodies: list[JsonObject], kind: str, name: str, namespace: str | None = None) -> list[JsonObject]:
    """The rules of a role that is bound to the operator's account, to nobody else and by the same name."""
    binding = named(bodies, f"{kind}Binding", name, namespace)
    assert binding["subjects"] == [OWN]
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
    rules = named(bodies, kind, name, namespace)["rules"]
    assert isinstance(rules, list)
    return rules


def test_by_default_it_serves_jobs_of_the_whole_cluster() -> None:
    assert rules_bound(objects(render()), "ClusterRole", "rowlock-operator-jobs") == list(JOB_RULES)


@pytest.mark.parametrize("values", ["default", "namespaced"])
def test_policies_of_jobs_are_its_business_only_where_it_is_told_to_isolate_them(values: str) -> None:
    for isolate, more in (("false", ()), ("true", ISOLATION_RULES)):
        bodies = objects(render(f"--set=jobs.isolate={isolate}", values=VALUES[values]))
        if values == "default":
            assert rules_bound(bodies, "ClusterRole", "rowlock-operator-jobs") == [*JOB_RULES, *more]
        else:
            assert rules_bound(bodies, "Role", "rowlock-operator-jobs", "team-a") == [*JOB_RULES, *more]
        (deployment,) = of_kind(bodies, "Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert ("--isolate-jobs" in container["args"]) is bool(more)


def test_it_leads_in_its_own_namespace() -> None:
    rules = rules_bound(objects(render()), "Role", "rowlock-operator-leader", NAMESPACE)
    assert rules == list(leader_rules(lease="rowlock-operator", service="rowlock-coordinator"))


def test_the_leader_may_write_its_address_where_addresses_of_pods_are_restricted() -> None:
    # OpenShift refuses a slice with an address of the pod network from whoever lacks this right; others ignore it.
    rules = rules_bound(objects(render()), "Role", "rowlock-operator-leader", NAMESPACE)
    may_create = {
        resource
        for rule in rules
        if "create" in rule["verbs"] and "resourceNames" not in rule
        for resource in rule["resources"]
    }
    assert "endpointslices/restricted" in may_create


def test_with_namespaces_it_serves_jobs_of_these_and_has_nothing_of_the_cluster() -> None:
    bodies = objects(render(values=VALUES["namespaced"]))
    for namespace in ("team-a", "team-b"):
        assert rules_bound(bodies, "Role", "rowlock-operator-jobs", namespace) == list(JOB_RULES)
    assert rules_bound(bodies, "Role", "rowlock-operator-leader", NAMESPACE)
    assert {body["kind"] for body in bodies} & CLUSTER_KINDS == set()


def test_the_operator_is_told_the_namespaces_it_has_roles_in() -> None:
    (deployment,) = of_kind(objects(render(values=VALUES["namespaced"])), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert [part for part in container["args"] if part.startswith("--namespace=")] == [
        "--namespace=team-a",
        "--namespace=team-b",
    ]


def test_names_in_the_rules_follow_the_release() -> None:
    rules = named(objects(render("--set=fullnameOverride=crews")), "Role", "crews-operator-leader", NAMESPACE)["rules"]
    assert rules == list(leader_rules(lease="crews-operator", service="crews-coordinator"))


@pytest.mark.parametrize("flag", ["rbac.create=false", "serviceAccount.create=false"])
def test_roles_and_account_may_be_somebody_elses(flag: str) -> None:
    bodies = objects(render(f"--set={flag}", "--set=rbac.aggregate=false"))
    kinds = {body["kind"] for body in bodies}
    if flag.startswith("rbac"):
        assert kinds & {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"} == set()
    else:
        assert "ServiceAccount" not in kinds
        assert of_kind(bodies, "ClusterRoleBinding")[0]["subjects"][0]["name"] == "default"


def test_users_of_a_namespace_may_write_jobs_but_not_what_the_operator_found() -> None:
    bodies = objects(render())
    edit, view = named(bodies, "ClusterRole", "rowlock-edit"), named(bodies, "ClusterRole", "rowlock-view")
    writes = {"create", "update", "patch", "delete", "deletecollection"}
    for rule in (*edit["rules"], *view["rules"]):
        assert rule["apiGroups"] == ["rowlock.dev"]
        if "distributedtrainingjobs/status" in rule["resources"] or rule in view["rules"]:
            assert not writes & set(rule["verbs"])
    label = "rbac.authorization.k8s.io/aggregate-to-"
    assert [edit["metadata"]["labels"][label + role] for role in ("admin", "edit")] == ["true", "true"]
    assert [name for name in view["metadata"]["labels"] if name.startswith(label)] == [label + "view"]
