"""The peer's webhooks are called for the benchmark's namespaces alone, whatever becomes of the benchmark."""

from __future__ import annotations

import base64

from benchmarks.cluster.peer import OWN_LABEL, pointed_at


def test_webhooks_are_pointed_at_this_machine_for_own_namespaces_only() -> None:
    service = {"name": "webhook-service", "namespace": "system", "path": "/mutate--v1-pod"}
    given = {
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "theirs"},
        "webhooks": [{"name": "pods.example.com", "failurePolicy": "Fail", "clientConfig": {"service": service}}],
    }
    made = pointed_at(given, "https://192.0.2.1:9443", b"a certificate")
    (webhook,) = made["webhooks"]
    assert webhook["clientConfig"] == {
        "url": "https://192.0.2.1:9443/mutate--v1-pod",
        "caBundle": base64.b64encode(b"a certificate").decode(),
    }
    assert webhook["namespaceSelector"] == {"matchLabels": OWN_LABEL}
    assert webhook["failurePolicy"] == "Fail"
    assert made["metadata"]["name"] == "rowlock-benchmark-theirs"
