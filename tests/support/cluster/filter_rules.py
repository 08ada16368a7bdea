"""From NetworkPolicies to the packet filter of a node: pure, text in and text out.

A subset: ingress from pods and namespaces, and ports. A pod selected by a policy that says more than is understood
here is shut off, in both directions: a test that needs more shall fail, not pass because nobody looked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.support.kube_api import JsonObject

#: Every rule is in this chain; the node's FORWARD chain jumps to it first.
CHAIN = "ROWLOCK-POLICIES"
_PEER = {"podSelector", "namespaceSelector"}
_PORT = {"port", "protocol"}


@dataclass(frozen=True)
class Known:
    """What the API server holds."""

    policies: Sequence[JsonObject]
    pods: Sequence[JsonObject]
    namespaces: Sequence[JsonObject]


def chain(known: Known, node: str) -> str:
    """Return the filter of a node, for `iptables-restore --noflush`: what its own pods let in.

    What is let in returns to the chain before, so that it is still subject to all other rules.
    """
    lines = ["*filter", f":{CHAIN} - [0:0]"]
    if known.policies:
        # Answers to what a pod asked for are let in, as is what was connected before a policy came.
        lines.append(f"-A {CHAIN} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN")
    own = [pod for pod in _with_address(known.pods) if pod["spec"].get("nodeName") == node]
    # Who is shut off comes first, so that nobody's rule lets its packets in.
    lines += [rule for pod in own for rule in _shut_off(known, pod)]
    lines += [rule for pod in own for rule in _let_in(known, pod)]
    return "\n".join([*lines, "COMMIT", ""])


def refusals(policy: JsonObject) -> list[str]:
    """Return what a policy says that is not understood here, by field."""
    spec = policy["spec"]
    found = [f"spec.policyTypes: {kind}" for kind in spec.get("policyTypes", ["Ingress"]) if kind != "Ingress"]
    if spec.get("egress"):
        found.append("spec.egress")
    for number, rule in enumerate(spec.get("ingress") or []):
        place = f"spec.ingress[{number}]"
        found += [f"{place}.{name}" for name in rule if name not in ("from", "ports")]
        found += [f"{place}.from: {name}" for peer in rule.get("from") or [] for name in peer if name not in _PEER]
        found += [f"{place}.ports: {name}" for port in rule.get("ports") or [] for name in port if name not in _PORT]
    return found


def matches(selector: JsonObject, labels: dict[str, str]) -> bool:
    """Return whether a LabelSelector takes these labels; an empty one takes all."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions") or [])


def _holds(expression: JsonObject, labels: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case operator:
            raise ValueError(f"label selector: unknown operator {operator!r}")


def _shut_off(known: Known, pod: JsonObject) -> list[str]:
    if any(refusals(policy) and _selects(policy, pod) for policy in known.policies):
        return [f"-A {CHAIN} -{end} {pod['status']['podIP']}/32 -j DROP" for end in "ds"]
    return []


def _let_in(known: Known, pod: JsonObject) -> list[str]:
    selecting = [policy for policy in known.policies if _selects(policy, pod)]
    if not selecting or any(refusals(policy) for policy in selecting):
        return []
    address = pod["status"]["podIP"]
    allowed = [
        f"-A {CHAIN} -d {address}/32{source}{port} -j RETURN"
        for policy in selecting
        for rule in policy["spec"].get("ingress") or []
        for source in _sources(known, policy, rule)
        for port in _ports(rule, pod)
    ]
    return [*dict.fromkeys(allowed), f"-A {CHAIN} -d {address}/32 -j DROP"]


def _selects(policy: JsonObject, pod: JsonObject) -> bool:
    same = policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
    return same and matches(policy["spec"]["podSelector"], _labels(pod))


def _sources(known: Known, policy: JsonObject, rule: JsonObject) -> Iterable[str]:
    peers = rule.get("from")
    if not peers:
        return [""]
    return [
        f" -s {pod['status']['podIP']}/32"
        for pod in _with_address(known.pods)
        if any(_is_peer(known, policy, peer, pod) for peer in peers)
    ]


def _is_peer(known: Known, policy: JsonObject, peer: JsonObject, pod: JsonObject) -> bool:
    if "namespaceSelector" in peer:
        chosen = {
            one["metadata"]["name"] for one in known.namespaces if matches(peer["namespaceSelector"], _labels(one))
        }
    else:
        chosen = {policy["metadata"]["namespace"]}
    return pod["metadata"]["namespace"] in chosen and matches(peer.get("podSelector") or {}, _labels(pod))


def _ports(rule: JsonObject, pod: JsonObject) -> Iterable[str]:
    ports = rule.get("ports")
    if not ports:
        return [""]
    found = []
    for port in ports:
        protocol = port.get("protocol", "TCP")
        wanted = port.get("port")
        if isinstance(wanted, str):
            numbers = [
                one["containerPort"]
                for container in pod["spec"]["containers"]
                for one in container.get("ports") or []
                if one.get("name") == wanted and one.get("protocol", "TCP") == protocol
            ]
        else:
            numbers = [wanted]
        words = f" -p {protocol.lower()}"
        found += [words if number is None else f"{words} --dport {number}" for number in numbers]
    return found


def _with_address(pods: Sequence[JsonObject]) -> list[JsonObject]:
    """Pods with an address of their own that they still hold: one that ended may have passed it on."""
    return [
        pod
        for pod in pods
        if pod.get("status", {}).get("podIP")
        and not pod["spec"].get("hostNetwork")
        and pod["status"].get("phase") not in ("Succeeded", "Failed")
    ]


def _labels(body: JsonObject) -> dict[str, str]:
    return body["metadata"].get("labels") or {}
