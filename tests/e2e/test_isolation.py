"""Jobs are kept from each other, and from what is not theirs: credentials, the coordinator, each other's ports."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from rowlock import protocol
from rowlock.api.v1alpha1 import TOKEN_DIRECTORY
from tests.e2e.faults import exec_in
from tests.e2e.jobs import RESOURCES, Job, crew_spec
from tests.e2e.site import SYSTEM
from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from tests.e2e.site import Site
    from tests.support.kube_api import JsonObject

#: Any port that needs no right to listen on; each worker of `serving` does.
PORT = 29600
TOKEN_FILE = f"{TOKEN_DIRECTORY}/token"
#: Both operators are replaced, one looks at all jobs, and the filters of the nodes follow.
ISOLATED_SECONDS = 60.0
#: From a container's start to its server's.
LISTENING_SECONDS = 60.0

#: Prints the HTTP status that a URL answers with. Certificates are not what is asked here.
_STATUS = """
import json, ssl, sys, urllib.error, urllib.request
url, headers = json.loads(sys.argv[1])
tls = ssl.create_default_context()
tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
try:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=tls, timeout=10) as answer:
        print(answer.status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
#: Prints what comes of a TCP connection. A filtered packet gets no answer; any other one within milliseconds.
_CONNECT = """
import errno, socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()
    print("connected")
except TimeoutError:
    print("no answer")
except OSError as error:
    print(errno.errorcode[error.errno])
"""
#: Prints what a worker sees of its token's file, and what comes of writing to it.
_LOOK_AT = """
import errno, json, os, stat, sys
found = os.stat(sys.argv[1])
try:
    os.close(os.open(sys.argv[1], os.O_WRONLY))
    written = "written"
except OSError as error:
    written = errno.errorcode[error.errno]
flags = os.statvfs(sys.argv[1]).f_flag
print(json.dumps({
    "mode": oct(stat.S_IMODE(found.st_mode)), "owner": found.st_uid, "written": written,
    "read-only": bool(flags & os.ST_RDONLY), "token": open(sys.argv[1]).read(),
}))
"""
#: Prints the environments of all processes of a container that may be read.
_ENVIRONMENTS = """
import glob
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        print(open(path, errors="replace").read())
    except OSError:
        pass
"""


def serving() -> dict[str, Any]:
    """A crew of two whose workers listen, and do nothing else until they are deleted."""
    return {
        "workers": 2,
        "command": ["python3", "-m", "http.server", str(PORT), "--directory", "/tmp"],  # noqa: S108 (in the container)
        "checkpoint": {"storage": {"size": "64Mi", "accessMode": "ReadWriteMany"}},
        "template": {"spec": {"containers": [{"name": "trainer", "resources": RESOURCES}]}},
    }


def python(job: Job, worker: int, script: str, *words: str) -> str:
    """Run a script in a worker's container; return what it printed."""
    return exec_in(job, worker, "python3", "-c", script, *words).strip()


def status_of(job: Job, url: str, **headers: str) -> int:
    """What a URL answers to worker 0 of a job."""
    return int(python(job, 0, _STATUS, json.dumps([url, headers])))


def connects(job: Job, worker: int, other: Job, of: int) -> str:
    """What comes of a worker's connection to another one."""
    return python(job, worker, _CONNECT, other.pod(of)["status"]["podIP"], str(PORT))


def until_connected(job: Job, worker: int, other: Job, of: int) -> None:
    """Wait until a worker reaches another one: a container that runs does not listen yet."""
    words = f"worker {worker} of {job.name} reaches worker {of} of {other.name}"
    wait_until(lambda: connects(job, worker, other, of) == "connected", LISTENING_SECONDS, words)


def until_shut_off(job: Job, worker: int, other: Job, of: int) -> None:
    """Wait until a worker's packets to another one are lost."""
    words = f"worker {worker} of {job.name} does not reach worker {of} of {other.name}"
    wait_until(lambda: connects(job, worker, other, of) == "no answer", ISOLATED_SECONDS, words)


def token_of(job: Job) -> str:
    """The job's token, as its Secret holds it."""
    secret = job.api.get(f"/api/v1/namespaces/{job.namespace}/secrets/{job.name}-token").ok()
    return base64.b64decode(secret["data"]["token"]).decode()


@pytest.fixture
def two_jobs(site: Site, namespace: str) -> tuple[Job, Job]:
    """Two jobs in one namespace whose workers listen."""
    jobs = tuple(Job.apply(site, namespace, serving(), name) for name in ("ours", "theirs"))
    for job in jobs:
        job.until_phase("Running")
    return jobs[0], jobs[1]


def test_a_worker_has_no_way_into_the_api_server(site: Site, two_jobs: tuple[Job, Job]) -> None:
    job, _ = two_jobs
    pod = job.pod(0)
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert "serviceaccount" not in json.dumps(pod["spec"]["volumes"])
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert python(job, 0, "import os, sys; print(os.path.exists(sys.argv[1]))", folder) == "False"
    address, port = site.cluster.api_address
    for host in ("kubernetes.default.svc", f"{address}:{port}"):
        for path in ("/api/v1/secrets", f"/api/v1/namespaces/{job.namespace}/pods", f"{job.path}/status"):
            assert status_of(job, f"https://{host}{path}") in (401, 403)
        # Its token is nobody there.
        assert status_of(job, f"https://{host}/api/v1/pods", Authorization=f"Bearer {token_of(job)}") == 401


def test_the_coordinator_hears_a_worker_about_its_own_job_only(two_jobs: tuple[Job, Job]) -> None:
    ours, theirs = two_jobs
    base = next(
        variable["value"]
        for variable in ours.pod(0)["spec"]["containers"][0]["env"]
        if variable["name"] == protocol.ENV_COORDINATOR
    )

    def asked(job: Job, **headers: str) -> int:
        return status_of(ours, f"{base}/v1alpha1/jobs/{job.namespace}/{job.name}/workers/0", **headers)

    token = f"Bearer {token_of(ours)}"
    # Let in, and then told that this is no WebSocket handshake.
    assert asked(ours, Authorization=token) == 400
    assert asked(theirs, Authorization=token) == 401
    assert asked(ours) == 401
    assert asked(ours, Authorization="Bearer wrong") == 401
    assert asked(theirs, Authorization=f"Bearer {token_of(theirs)}") == 400, "the path itself is right"


def test_isolated_workers_are_reached_by_their_own_crew_only(site: Site, two_jobs: tuple[Job, Job]) -> None:
    ours, theirs = two_jobs
    # Nothing else keeps them apart.
    until_connected(theirs, 0, ours, of=1)
    until_connected(ours, 0, theirs, of=1)
    before = [pod["metadata"]["uid"] for pod in ours.pods()]
    with site.isolating():
        for worker in range(2):
            for of in range(2):
                until_shut_off(theirs, worker, ours, of)
                until_shut_off(ours, worker, theirs, of)
                until_connected(ours, worker, ours, of)
        # Probes, exec and logs come from the pod's own node; orders come on a connection that the pod opened.
        assert site.cluster.on_node(ours.pod(0)["spec"]["nodeName"], "curl", "-sS", _url(ours.pod(0)))
        assert ours.condition("Ready")["status"] == "True"
    assert [pod["metadata"]["uid"] for pod in ours.pods()] == before, "isolating a job disturbs nobody"
    assert ours.status["restarts"] == 0


def test_an_isolated_crew_trains_and_owns_its_policy(site: Site, namespace: str) -> None:
    with site.isolating():
        job = Job.apply(site, namespace, crew_spec(steps=60))
        job.until_phase("Succeeded")
        policy = job.api.get(f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{job.name}").ok()
        assert policy["metadata"]["ownerReferences"][0]["name"] == job.name
        assert job.status["restarts"] == 0


def test_a_nodes_filter_is_there_again_after_a_power_cut(site: Site, two_jobs: tuple[Job, Job]) -> None:
    ours, theirs = two_jobs
    with site.isolating():
        node = ours.pod(1)["spec"]["nodeName"]
        until_shut_off(theirs, 0, ours, of=1)
        until_shut_off(ours, 0, theirs, of=1)
        struck = [job for job in (ours, theirs) if any(pod["spec"]["nodeName"] == node for pod in job.pods())]
        site.cluster.power_off(node)
        site.cluster.power_on(node)
        for job in struck:
            job.until(
                lambda status: status["generation"] > 1 and status["phase"] == "Running", f"{job.name} is whole again"
            )
        until_connected(ours, 0, ours, of=1)
        # At once, not some time later: no pod is there before its node's filter is.
        assert connects(theirs, 0, ours, of=1) == "no answer"
        assert connects(ours, 0, theirs, of=1) == "no answer"


def test_a_token_is_read_only_and_shows_nowhere(site: Site, two_jobs: tuple[Job, Job]) -> None:
    job, _ = two_jobs
    token = token_of(job)
    seen = json.loads(python(job, 0, _LOOK_AT, TOKEN_FILE))
    right = seen.pop("token") == token  # said apart, so that a failure does not print it
    assert right
    assert seen == {"mode": "0o440", "owner": 0, "written": "EACCES", "read-only": True}
    for where, text in _written(site, job).items():
        assert len(text) > 2, f"{where} says something"
        for form in (token, base64.b64encode(token.encode()).decode()):
            assert form not in text, f"the token shows in {where}"


def _written(site: Site, job: Job) -> dict[str, str]:
    """All that a person with no right to read Secrets may come to see."""
    namespace = f"/api/v1/namespaces/{job.namespace}"
    words = ("logs", "-l", "app.kubernetes.io/name=rowlock", "--tail=-1", "-n", SYSTEM)
    return {
        "the job": json.dumps(job.body()),
        "its pods": json.dumps(job.pods()),
        "its events": json.dumps(job.api.list(f"{namespace}/events")),
        "its other objects": json.dumps(job.api.list(f"{namespace}/services")),
        "the operators' logs": site.cluster.kubectl(*words),
        "the workers' logs": "".join(_logs(job, pod) for pod in job.pods()) + "(end)",
        "the processes' environments": python(job, 0, _ENVIRONMENTS),
    }


def _logs(job: Job, pod: JsonObject) -> str:
    return job.site.cluster.kubectl("logs", "-n", job.namespace, pod["metadata"]["name"], "--tail=-1")


def _url(pod: JsonObject) -> str:
    return f"http://{pod['status']['podIP']}:{PORT}/"
