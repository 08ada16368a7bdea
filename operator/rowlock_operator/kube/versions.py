"""Which of two versions of an object is the newer one.

Objects reach the operator on several ways at once (watch, list, the answer to its own write), so an older
version can arrive after a newer one. Since Kubernetes 1.35 resource versions may be compared as numbers
within one resource (KEP-5504, "comparable resource version"), and with etcd behind the API server they
always could be. A server with other versions is served too: there the last to arrive wins, and the
precondition on every status write keeps counting right.
"""

from __future__ import annotations


def older(one: str, other: str) -> bool:
    """Return whether resource version `one` is known to be older than `other`."""
    if not (one.isdecimal() and other.isdecimal()):
        return False
    return int(one) < int(other)
