"""What makes NetworkPolicies hold in the native cluster: each node's packet filter, kept in step with the API server.

`python -m tests.support.cluster.isolation --kubeconfig FILE` runs until it is killed. A pod's packets are routed, so
each one passes the FORWARD chain of its node, also between two pods of one node. What a node itself sends to its pods,
such as probes, does not, and no policy is about it. The rules of a node that lost its power come back within a second,
before any pod does.
"""

from __future__ import annotations

import argparse
import http.client
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tests.support.cluster.filter_rules import CHAIN, Known, chain, refusals
from tests.support.cluster.layout import Layout, NodeNames
from tests.support.cluster.network import in_namespace, run
from tests.support.go_programs import say
from tests.support.kube_api import KubeApi

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.kube_api import JsonObject

PATHS = ("/apis/networking.k8s.io/v1/networkpolicies", "/api/v1/pods", "/api/v1/namespaces")
#: How often a node's filter is looked at, in seconds: booting a node takes longer.
LOOK_SECONDS = 1.0
#: How long to wait for an API server that is away, in seconds.
AWAY_SECONDS = 1.0


class Mirror:
    """The objects of one resource, in a thread that lists and watches. What was known stays when nobody answers."""

    def __init__(self, api: KubeApi, path: str, changed: Callable[[], None]) -> None:
        self._api = api
        self._path = path
        self._changed = changed
        self._objects: dict[str, JsonObject] = {}
        #: Set once everything was listed.
        self.listed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=path, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still listens; one that does not is a defect."""
        return self._thread.is_alive()

    @property
    def objects(self) -> list[JsonObject]:
        """All that is known, always in the same order."""
        known = dict(self._objects)
        return [known[uid] for uid in sorted(known)]

    def _run(self) -> None:
        while True:
            try:
                self._follow()
            except (OSError, http.client.HTTPException, AssertionError, ValueError) as error:
                say(f"{self._path}: {error!r}; again in {AWAY_SECONDS:g} s")
                time.sleep(AWAY_SECONDS)

    def _follow(self) -> None:
        answer = self._api.get(self._path).ok()
        self._objects = {body["metadata"]["uid"]: body for body in answer["items"]}
        self.listed.set()
        self._changed()
        for event in self._api.watch(self._path, resourceVersion=answer["metadata"]["resourceVersion"]):
            body = event["object"]
            if event["type"] == "ERROR":
                return  # too old a version, as a rule: list anew
            if event["type"] == "BOOKMARK":
                continue  # no object, only a sign of life
            if event["type"] == "DELETED":
                self._objects.pop(body["metadata"]["uid"], None)
            else:
                self._objects[body["metadata"]["uid"]] = body
            self._changed()


class Enforcer:
    """Keeps the filters of the nodes."""

    def __init__(self, nodes: Sequence[NodeNames]) -> None:
        self._nodes = nodes
        self._applied: dict[str, str] = {}
        self._looked_at = 0.0
        self._told: set[tuple[str, str]] = set()

    def enforce(self, known: Known) -> None:
        """Bring every node's filter up to date."""
        for policy in known.policies:
            self._tell(policy)
        look = time.monotonic() - self._looked_at >= LOOK_SECONDS
        if look:
            self._looked_at = time.monotonic()
        for node in self._nodes:
            text = chain(known, node.name)
            if self._applied.get(node.name) == text and (not look or hooked(node)):
                continue
            run(*in_namespace(node), "iptables-restore", "--wait", "--noflush", stdin=text)
            _hook(node)
            self._applied[node.name] = text

    def _tell(self, policy: JsonObject) -> None:
        meta = policy["metadata"]
        version = (meta["uid"], meta["resourceVersion"])
        if version in self._told:
            return
        self._told.add(version)
        for words in refusals(policy):
            say(f"ERROR: {meta['namespace']}/{meta['name']}: {words} is not understood: its pods are shut off")


def hooked(node: NodeNames) -> bool:
    """Return whether a node's filter begins with ours. Nothing removes our chain and leaves the jump to it."""
    first = run(*in_namespace(node), "iptables", "--wait", "-S", "FORWARD", "1", check=False)
    return first.stdout.split() == ["-A", "FORWARD", "-j", CHAIN]


def _hook(node: NodeNames) -> None:
    """Make our chain the first that forwarded packets pass: kube-proxy's may accept them for good.

    One jump is there at any moment, so that nothing gets past it meanwhile.
    """
    if hooked(node):
        return
    inside = [*in_namespace(node), "iptables", "--wait"]
    run(*inside, "-I", "FORWARD", "1", "-j", CHAIN)
    jump = ["-A", "FORWARD", "-j", CHAIN]
    rules = [line.split() for line in run(*inside, "-S", "FORWARD").stdout.splitlines() if line.startswith("-A")]
    for number in reversed([number for number, rule in enumerate(rules, 1) if rule == jump and number > 1]):
        run(*inside, "-D", "FORWARD", str(number))


def main() -> NoReturn:
    """Enforce for ever. Raises RuntimeError when that is not possible any more."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.cluster.isolation", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    api = KubeApi.of_kubeconfig(parser.parse_args().kubeconfig)
    count = int((Layout.default().run / "nodes").read_text())
    changed = threading.Event()
    mirrors = [Mirror(api, path, changed.set) for path in PATHS]
    for mirror in mirrors:
        mirror.listed.wait()
    enforcer = Enforcer([NodeNames(number) for number in range(1, count + 1)])
    say("enforcing")
    while all(mirror.alive for mirror in mirrors):
        changed.clear()
        try:
            enforcer.enforce(Known(*(mirror.objects for mirror in mirrors)))
        except RuntimeError as error:  # iptables; a node's network may be on its way
            say(f"ERROR: {error}")
        changed.wait(LOOK_SECONDS)
    raise RuntimeError("nobody follows the API server any more")


if __name__ == "__main__":
    main()
