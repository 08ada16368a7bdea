"""What the native cluster makes of NetworkPolicies: its packet filters, packet by packet."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from rowlock_operator.resources.network_policy import build_network_policy
from tests.support.cluster.filter_rules import CHAIN, Known, chain, matches, refusals
from tests.unit.resources.jobs import job

if TYPE_CHECKING:
    from tests.support.kube_api import JsonObject

NODE = "node-1"
PORTS = [{"name": "probes", "containerPort": 8481}]


def pod(address: str, namespace: str = "lab", node: str = NODE, phase: str = "Running", **labels: str) -> JsonObject:
    return {
        "metadata": {"namespace": namespace, "name": address, "uid": address, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "main", "ports": PORTS}]},
        "status": {"podIP": address, "phase": phase},
    }


def policy(ingress: list[Any] | None = None, namespace: str = "lab", **spec: Any) -> JsonObject:
    whole = {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Ingress"], "ingress": ingress, **spec}
    return {"metadata": {"namespace": namespace, "name": "p", "uid": "p"}, "spec": whole}


def namespaces(*names: str) -> list[JsonObject]:
    return [{"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}} for name in names]


#: The guarded pod, another of its kind, and two strangers.
GUARDED, SAME = pod("10.0.0.1", app="a"), pod("10.0.0.2", node="node-2", app="a")
STRANGER, FOREIGN = pod("10.0.0.3", app="b"), pod("10.0.0.4", "other", app="a")
PODS = [GUARDED, SAME, STRANGER, FOREIGN]
FROM_SAME = {"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}


def known(*policies: JsonObject, pods: list[JsonObject] = PODS) -> Known:
    return Known(policies, pods, namespaces("lab", "other"))


def passes(text: str, source: str, destination: str, port: int = 4000) -> bool:
    """What the filter does with the first packet of a TCP connection."""
    for line in text.splitlines():
        words = shlex.split(line)
        if words[:1] != ["-A"] or "conntrack" in words:
            continue
        assert words[1] == CHAIN
        given = dict(zip(words[2::2], words[3::2], strict=True))
        verdict = given.pop("-j")
        packet = {"-s": f"{source}/32", "-d": f"{destination}/32", "-p": "tcp", "--dport": str(port)}
        if all(packet[name] == value for name, value in given.items()):
            return verdict != "DROP"
    return True


def sources(text: str, port: int = 4000) -> list[str]:
    """Who gets through to the guarded pod."""
    return [one["status"]["podIP"] for one in PODS[1:] if passes(text, one["status"]["podIP"], "10.0.0.1", port)]


def test_without_a_policy_everybody_gets_through() -> None:
    assert chain(known(), NODE) == f"*filter\n:{CHAIN} - [0:0]\nCOMMIT\n"


def test_a_policy_lets_in_whom_it_names_and_nobody_else() -> None:
    text = chain(known(policy([FROM_SAME])), NODE)
    assert sources(text) == ["10.0.0.2"]
    assert passes(text, "10.0.0.1", "10.0.0.3"), "who is not selected is open to all"


@pytest.mark.parametrize("ingress", [None, []])
def test_a_policy_that_names_nobody_lets_nobody_in(ingress: list[Any] | None) -> None:
    assert sources(chain(known(policy(ingress)), NODE)) == []


def test_a_rule_without_peers_lets_everybody_in_at_its_ports() -> None:
    text = chain(known(policy([{"ports": [{"port": 80}, {"port": "probes", "protocol": "TCP"}]}])), NODE)
    assert [len(sources(text, port)) for port in (80, 8481, 4000)] == [3, 3, 0]


def test_namespaces_are_chosen_by_their_labels() -> None:
    other = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}
    assert sources(chain(known(policy([{"from": [other]}])), NODE)) == ["10.0.0.4"]
    everywhere = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "a"}}}
    assert sources(chain(known(policy([{"from": [everywhere]}])), NODE)) == ["10.0.0.2", "10.0.0.4"]


def test_what_several_policies_let_in_adds_up() -> None:
    strangers = {"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["b"]}]}}]}
    assert sources(chain(known(policy([FROM_SAME]), policy([strangers])), NODE)) == ["10.0.0.2", "10.0.0.3"]


def test_a_policy_is_about_its_own_namespace_and_a_filter_about_its_own_node() -> None:
    assert passes(chain(known(policy([])), NODE), "10.0.0.3", "10.0.0.4")
    assert passes(chain(known(policy([])), NODE), "10.0.0.3", "10.0.0.2")
    assert not passes(chain(known(policy([])), "node-2"), "10.0.0.3", "10.0.0.2")


def test_addresses_of_ended_pods_and_of_nodes_are_nobodys() -> None:
    ended = pod("10.0.0.2", phase="Succeeded", app="a")
    shared = pod("10.0.0.9", app="a")
    shared["spec"]["hostNetwork"] = True
    text = chain(known(policy([FROM_SAME]), pods=[GUARDED, ended, shared]), NODE)
    assert "10.0.0.2" not in text
    assert "10.0.0.9" not in text


@pytest.mark.parametrize(
    "strange",
    [
        policy([FROM_SAME], policyTypes=["Ingress", "Egress"]),
        policy([FROM_SAME], egress=[{}]),
        policy([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]),
        policy([{"ports": [{"port": 1, "endPort": 9}]}]),
        policy([{"frmo": []}]),
    ],
    ids=["egress-type", "egress", "ip-block", "end-port", "unknown-field"],
)
def test_pods_of_a_policy_that_is_not_understood_are_shut_off(strange: JsonObject) -> None:
    assert refusals(strange)
    text = chain(known(policy([FROM_SAME]), strange, policy([FROM_SAME], podSelector={})), NODE)
    assert sources(text) == []
    assert not passes(text, "10.0.0.1", "10.0.0.2")
    assert not passes(text, "10.0.0.1", "10.0.0.3")


@pytest.mark.parametrize(
    ("operator", "values", "taken"),
    [("In", ["a"], "a"), ("NotIn", ["a"], "b-"), ("Exists", None, "ab"), ("DoesNotExist", None, "-")],
)
def test_selectors_mean_what_kubernetes_says(operator: str, values: list[str] | None, taken: str) -> None:
    selector = {"matchExpressions": [{"key": "app", "operator": operator, "values": values}]}
    labels = {"a": {"app": "a"}, "b": {"app": "b"}, "-": {}}
    assert "".join(name for name in "ab-" if matches(selector, labels[name])) == taken


def test_the_policy_of_a_job_is_understood() -> None:
    assert refusals(build_network_policy(job())) == []
