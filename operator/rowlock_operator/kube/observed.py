"""What the cluster holds, as far as this operator knows: the map that events and lists feed.

One `Collection` per resource, keyed by namespace and name. Three rules keep it from going backwards: a
version older than the one held is ignored, a version older than the last full list is ignored unless the
list held it too, and an object that was seen to go does not come back by news from before that.

Gone from the watch is not always gone: an object that loses its label vanishes from everything that is selected
by it, and comes back, as itself, with the label. So what is remembered of the vanished is until which version
nothing of them counts; only what the server itself said to be no more is gone for good, because a UID is used
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rowlock_operator.kube.versions import older
from rowlock_operator.resources.names import LABEL_JOB

Json = dict[str, Any]
Key = tuple[str, str]

#: Vanished UIDs remembered against late events: far more than can be under way between watch and list.
BURIED_KEPT = 10_000


def key_of(body: Json) -> Key:
    """Return namespace and name of an object."""
    return body["metadata"]["namespace"], body["metadata"]["name"]


def version_of(body: Json) -> str:
    """Return the resource version of an object or of a list."""
    return str((body.get("metadata") or {}).get("resourceVersion") or "")


class Collection:
    """The objects of one resource."""

    def __init__(self, *, by_label: bool = True) -> None:
        self._by_label = by_label
        self._objects: dict[Key, Json] = {}
        #: Names of each job's objects, so that a job with 4 pods does not cost a walk over 20,000.
        self._by_job: dict[Key, set[Key]] = {}
        #: Of vanished UIDs, the version at which they were gone; None when they are for good.
        self._buried: dict[str, str | None] = {}
        self._floor = ""

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: object) -> bool:
        return key in self._objects

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._objects))

    def get(self, namespace: str, name: str) -> Json | None:
        """Return one object, None when there is none of that name."""
        return self._objects.get((namespace, name))

    def of_job(self, namespace: str, job: str) -> list[Json]:
        """Return the objects that carry the label of a job, in the order of their names."""
        return [self._objects[key] for key in sorted(self._by_job.get((namespace, job), ()))]

    def job_of(self, body: Json) -> Key | None:
        """Return the key of the job an object belongs to by its label, None without one."""
        if not self._by_label:
            return key_of(body)
        job = (body["metadata"].get("labels") or {}).get(LABEL_JOB)
        return None if job is None else (body["metadata"]["namespace"], job)

    def put(self, body: Json) -> bool:
        """Take in one version of an object; return False when it told nothing new."""
        held = self._objects.get(key_of(body))
        if self._is_buried(body):
            return False
        if held is not None:
            if version_of(held) == version_of(body) or older(version_of(body), version_of(held)):
                return False
        elif older(version_of(body), self._floor):
            return False
        self._set(body)
        return True

    def remove(self, body: Json) -> bool:
        """Take in a watch's word that an object is gone; return False when that was known."""
        return self._leave(body, version_of(body))

    def remove_for_good(self, body: Json) -> bool:
        """Take in that the server, asked for this very object, has it no more; return False when that was known."""
        return self._leave(body, None)

    def replace(self, bodies: list[Json], version: str, within: Key | None = None) -> set[Key]:
        """Take in a full list; return the jobs something changed for.

        Args:
            bodies: All objects of this resource (of one job's, with `within`).
            version: Resource version of the list.
            within: Namespace and name of the job whose objects alone were listed.
        """
        changed: set[Key] = set()
        listed = {key_of(body) for body in bodies}
        for body in bodies:
            if self.put(body):
                changed |= {job} if (job := self.job_of(body)) else set()
        known = self._by_job.get(within, set()) if within else set(self._objects)
        for key in known - listed:
            if not older(version, version_of(self._objects[key])):
                changed |= {job} if (job := self.job_of(self._objects[key])) else set()
                self._leave(self._objects[key], version)
        if within is None:
            self._floor = version
        return changed

    def _leave(self, body: Json, version: str | None) -> bool:
        uid = body["metadata"].get("uid", "")
        # Moved to the end, so that the longest unheard of are forgotten first.
        known = self._buried.pop(uid, version)
        self._buried[uid] = None if known is None else version
        while len(self._buried) > BURIED_KEPT:
            del self._buried[next(iter(self._buried))]
        held = self._objects.get(key_of(body))
        if held is None or held["metadata"].get("uid") != uid:
            return False
        self._drop(key_of(body))
        return True

    def _is_buried(self, body: Json) -> bool:
        """Whether this is old news of a vanished object; one that is there after all is dug up."""
        uid = body["metadata"].get("uid", "")
        if uid not in self._buried:
            return False
        gone_at = self._buried[uid]
        # The answer to a deletion carries the very version of the deletion: only what is newer is there.
        if gone_at is None or not older(gone_at, version_of(body)):
            return True
        del self._buried[uid]
        return False

    def _set(self, body: Json) -> None:
        key = key_of(body)
        if key in self._objects:
            self._drop(key)
        self._objects[key] = body
        job = self.job_of(body)
        if job is not None:
            self._by_job.setdefault(job, set()).add(key)

    def _drop(self, key: Key) -> None:
        job = self.job_of(self._objects.pop(key))
        if job is not None:
            names = self._by_job.get(job, set())
            names.discard(key)
            if not names:
                self._by_job.pop(job, None)


class Cluster:
    """The resources this operator looks at. Secrets are not among them: it may not list those."""

    def __init__(self) -> None:
        self.jobs = Collection(by_label=False)
        self.pods = Collection()
        self.services = Collection()
        self.claims = Collection()
