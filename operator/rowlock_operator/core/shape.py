"""What of a spec shapes a pod: the fingerprint that tells pods of an older spec from those of this one.

Only what differs from its default is taken in, so that a new release with more fields changes no fingerprint
and an upgrade of the operator disturbs no crew. The image is taken in whatever it is: its default is another one in
every release, while a job keeps the one that was written into it when it was created. The number of workers is not
part of it: it shapes the crew, not its pods.
"""

from __future__ import annotations

import hashlib
import json

from rowlock.api.v1alpha1 import JobSpec

SHAPING = {"processes_per_worker", "image", "template", "trainer", "command", "checkpoint"}


def spec_hash(spec: JobSpec) -> str:
    """Return the fingerprint of the parts of `spec` that a worker pod is made from: 16 hexadecimal digits."""
    shaping = spec.model_dump(mode="json", include=SHAPING, exclude_defaults=True) | {"image": spec.image}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:16]
