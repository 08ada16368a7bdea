"""Who reaches the operator, and whom it reaches, once the network policy is on."""

from __future__ import annotations

from typing import Any

from rowlock_operator.resources.names import LABEL_JOB
from tests.support.charts import VALUES, objects, of_kind, render

NAMED = "kubernetes.io/metadata.name"


def policy(*arguments: str, values: str = "default") -> dict[str, Any]:
    bodies = objects(render("--set=networkPolicy.enabled=true", *arguments, values=VALUES[values]))
    (found,) = of_kind(bodies, "NetworkPolicy")
    (deployment,) = of_kind(bodies, "Deployment")
    assert found["spec"]["podSelector"] == deployment["spec"]["selector"]
    return dict(found["spec"])


def ingress(spec: dict[str, Any], port: str) -> dict[str, Any]:
    (rule,) = (rule for rule in spec["ingress"] if [item["port"] for item in rule["ports"]] == [port])
    return dict(rule)


def test_it_is_off_by_default() -> None:
    """Pods with hostNetwork have their node's address, and no selector matches them."""
    assert of_kind(objects(render()), "NetworkPolicy") == []


def test_workers_of_any_namespace_reach_the_coordinator() -> None:
    (peer,) = ingress(policy(), "coordinator")["from"]
    assert peer["podSelector"] == {"matchExpressions": [{"key": LABEL_JOB, "operator": "Exists"}]}
    assert peer["namespaceSelector"] == {}


def test_with_namespaces_only_workers_of_these_do() -> None:
    (peer,) = ingress(policy(values="namespaced"), "coordinator")["from"]
    (expression,) = peer["namespaceSelector"]["matchExpressions"]
    assert expression == {"key": NAMED, "operator": "In", "values": ["team-a", "team-b"]}


def test_nodes_may_be_let_in_for_workers_in_their_network() -> None:
    peers = ingress(policy(values="full"), "coordinator")["from"]
    assert {"ipBlock": {"cidr": "10.0.0.0/16"}} in peers


def test_metrics_are_for_all_or_for_those_named_and_the_test() -> None:
    assert "from" not in ingress(policy(), "probes")
    peers = ingress(policy(values="full"), "probes")["from"]
    assert peers[0] == {"namespaceSelector": {"matchLabels": {NAMED: "monitoring"}}}
    (test,) = of_kind(objects(render(values=VALUES["full"])), "Pod")
    assert peers[1]["podSelector"]["matchLabels"].items() <= test["metadata"]["labels"].items()


def test_the_way_out_is_open_unless_restricted_to_dns_and_the_api_server() -> None:
    assert policy()["policyTypes"] == ["Ingress"]
    spec = policy("--set=networkPolicy.egress.restricted=true")
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert [[port["port"] for port in rule["ports"]] for rule in spec["egress"]] == [[53, 53], [443, 6443]]
    assert policy(values="full")["egress"][1]["to"] == [{"ipBlock": {"cidr": "10.96.0.1/32"}}]
