"""The cluster where there is Docker: nodes of kind, which are containers.

Its parts are what kind brings, but for three: an audit log, a registry beside the nodes so that only changed layers
travel, and volumes in one folder of this machine that all nodes have. There is no class of volumes with a limit
(`sized`): a folder has none.

What this module asks of kind, docker and kubectl is tested with programs that only write down what they are asked
(tests/unit/support/test_kind.py). It has not been run against a Docker daemon.
"""

from __future__ import annotations

import base64
import functools
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import yaml

from tests.support.binaries import build
from tests.support.cluster import kind_config
from tests.support.cluster.kind_config import CONTROL_PLANE, REGISTRY, REGISTRY_PORT, SHARED, KindLayout
from tests.support.cluster.layout import NAME
from tests.support.cluster.network import run
from tests.support.go_programs import program, say
from tests.support.kube_api import KubeApi, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The one that is pinned: it brings Kubernetes 1.37, whose kubeadm takes the configuration that kind_config writes.
OLDEST_KIND = (0, 33)
REGISTRY_IMAGE = "docker.io/library/registry:2"
READY_SECONDS = 180.0
#: An account for the tests' own client, which knows tokens and no client certificates.
_ACCOUNT = "rowlock-tests"
_MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
_ASIDE = "/etc/kubernetes/kube-apiserver.yaml"


class KindCluster:
    """The kind cluster of this machine, running or not."""

    def __init__(self, layout: KindLayout) -> None:
        self.layout = layout

    @classmethod
    def up(cls, count: int = 3, seed_images: Sequence[str] = ()) -> KindCluster:
        """Start one, in place of one that runs, and wait until its nodes are ready.

        Args:
            count: Nodes for pods; the control plane has one of its own beside them.
            seed_images: Images of docker's store that every node is to begin with, if the first is there.

        Raises:
            BinariesError: a program is missing and cannot be had.
            RuntimeError: kind, docker or kubectl failed, with what it said.
        """
        if count < 1:
            raise ValueError(f"a cluster has at least 1 node, not {count}")
        down()
        cluster = cls(KindLayout.default())
        cluster._write_files(count)
        config = str(cluster.layout.state / "kind.yaml")
        run(
            kind_program(), "create", "cluster", f"--name={NAME}", f"--config={config}", "--wait=180s",
            f"--kubeconfig={cluster.kubeconfig}",
        )  # fmt: skip
        cluster._start_registry()
        cluster._share_volumes()
        if seed_images and cluster.image_id(seed_images[0]):
            cluster.load(seed_images)
        return cluster

    @classmethod
    def attach(cls) -> KindCluster | None:
        """Return the cluster that runs on this machine, None when none does."""
        state = run("docker", "inspect", "--format={{.State.Running}}", CONTROL_PLANE, check=False)
        return cls(KindLayout.default()) if state.stdout.strip() == "true" else None

    # --- what tests ask for (see interface.Cluster) -------------------------------------------------

    @property
    def kubeconfig(self) -> Path:
        return self.layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        return self.layout.audit / "audit.log"

    @property
    def node_names(self) -> list[str]:
        return [name for name in self._containers() if name != CONTROL_PLANE]

    @property
    def api_address(self) -> tuple[str, int]:
        template = '--format={{(index .NetworkSettings.Networks "kind").IPAddress}}'
        return run("docker", "inspect", template, CONTROL_PLANE).stdout.strip(), 6443

    def api(self) -> KubeApi:
        entry = yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]
        authority = self.layout.state / "ca.crt"
        authority.write_bytes(base64.b64decode(entry["certificate-authority-data"]))
        return KubeApi(entry["server"], self._token, authority)

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return run(kubectl_program(), f"--kubeconfig={self.kubeconfig}", *words, stdin=stdin).stdout

    def image_id(self, image: str) -> str | None:
        done = run("docker", "image", "inspect", "--format={{.Id}}", image, check=False)
        return done.stdout.strip().removeprefix("sha256:")[:12] if done.returncode == 0 else None

    def load(self, images: Sequence[str]) -> None:
        for image in images:
            self.publish(image, image)
        nodes = self.node_names
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(lambda node: [self.on_node(node, "crictl", "pull", image) for image in images], nodes))

    def publish(self, image: str, name: str) -> None:
        pushed = kind_config.pushed_name(name)
        run("docker", "tag", image, pushed)
        run("docker", "push", "--quiet", pushed)

    def on_node(self, node: str, *command: str) -> str:
        return run("docker", "exec", node, *command).stdout

    def kill_container(self, node: str, container: str) -> None:
        self.on_node(node, "ctr", "-n", "k8s.io", "tasks", "kill", "--signal=SIGKILL", container)

    def power_off(self, node: str) -> None:
        run("docker", "kill", node)

    def power_on(self, node: str) -> None:
        run("docker", "start", node)

    def stop_apiserver(self) -> None:
        # The kubelet ends a static pod whose manifest is gone, and starts it when it is back.
        self.on_node(CONTROL_PLANE, "mv", _MANIFEST, _ASIDE)
        wait_until(lambda: not self._apiserver_ready(), READY_SECONDS, "the API server is gone")

    def start_apiserver(self) -> None:
        self.on_node(CONTROL_PLANE, "mv", _ASIDE, _MANIFEST)
        wait_until(self._apiserver_ready, READY_SECONDS, "the API server is ready")

    def volume(self, namespace: str, claim: str) -> Path:
        name = self.kubectl("get", "pvc", "-n", namespace, claim, "--output=jsonpath={.spec.volumeName}")
        inside = self.kubectl("get", "pv", name, "--output=jsonpath={.spec.hostPath.path}")
        return self.layout.volumes / PurePosixPath(inside).relative_to(SHARED)

    # --- parts --------------------------------------------------------------------------------------

    def _containers(self) -> list[str]:
        return sorted(run(kind_program(), "get", "nodes", f"--name={NAME}").stdout.split())

    @functools.cached_property
    def _token(self) -> str:
        return self.kubectl("create", "token", _ACCOUNT, "--namespace=kube-system", "--duration=24h").strip()

    def _apiserver_ready(self) -> bool:
        words = (f"--kubeconfig={self.kubeconfig}", "get", "--raw=/readyz", "--request-timeout=5s")
        return run(kubectl_program(), *words, check=False).returncode == 0

    def _write_files(self, count: int) -> None:
        layout = self.layout
        for folder in (layout.volumes, layout.audit):
            folder.mkdir(parents=True)
        layout.volumes.chmod(0o777)  # a pod's user makes its folders there
        (layout.audit / "policy.yaml").write_text(kind_config.audit_policy())
        # Made here, so that it is not readable for the API server's own user alone.
        (layout.audit / "audit.log").touch()
        (layout.state / "kind.yaml").write_text(kind_config.cluster_config(layout, count))

    def _start_registry(self) -> None:
        port = f"--publish=127.0.0.1:{REGISTRY_PORT}:5000"
        run("docker", "run", "--detach", "--network=kind", f"--name={REGISTRY}", port, REGISTRY_IMAGE)
        for node in self._containers():
            for path, hosts in kind_config.registry_hosts().items():
                self.on_node(node, "mkdir", "-p", str(PurePosixPath(path).parent))
                run("docker", "exec", "--interactive", node, "cp", "/dev/stdin", path, stdin=hosts)

    def _share_volumes(self) -> None:
        space = "--namespace=local-path-storage"
        self.kubectl("patch", "configmap", "local-path-config", space, f"--patch={kind_config.provisioner_patch()}")
        self.kubectl("rollout", "restart", "deployment/local-path-provisioner", space)
        self.kubectl("rollout", "status", "deployment/local-path-provisioner", space, "--timeout=180s")
        self.kubectl("delete", "storageclass", "standard", "--ignore-not-found")
        self.kubectl("apply", "--filename=-", stdin=kind_config.storage_class())
        self.kubectl("create", "serviceaccount", _ACCOUNT, "--namespace=kube-system")
        binding = ("--clusterrole=cluster-admin", f"--serviceaccount=kube-system:{_ACCOUNT}")
        self.kubectl("create", "clusterrolebinding", _ACCOUNT, *binding)


def down() -> None:
    """Remove the kind cluster of this machine, however little or much of it there is."""
    layout = KindLayout.default()
    if layout.volumes.exists():
        # Written by users of containers, whom only root may clean up after; its nodes may be stopped, or gone.
        run(
            "docker", "run", "--rm", f"--volume={layout.state}:{SHARED}", "--entrypoint=find", REGISTRY_IMAGE,
            SHARED, "-mindepth", "1", "-delete", check=False,
        )  # fmt: skip
    run(kind_program(), "delete", "cluster", f"--name={NAME}", f"--kubeconfig={layout.kubeconfig}")
    run("docker", "rm", "--force", "--volumes", REGISTRY, check=False)
    if layout.state.exists():
        shutil.rmtree(layout.state)


@functools.cache
def kind_program() -> Path:
    """Return kind: one on PATH that is new enough, else the pinned one, built.

    Raises:
        BinariesError: there is none, and none can be built.
    """
    return program("kind", fits=_new_enough)


@functools.cache
def kubectl_program() -> Path:
    """Return kubectl: from PATH, else the one that is built for the tests of the API server.

    Raises:
        BinariesError: there is none, and none can be built.
    """
    found = shutil.which("kubectl")
    return Path(found) if found else build().kubectl


def _new_enough(kind: Path) -> bool:
    answer = subprocess.run([kind, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"v(\d+)\.(\d+)", answer)
    if match is not None and (int(match[1]), int(match[2])) >= OLDEST_KIND:
        return True
    say(f"{kind} says it is {answer.strip()!r}, older than {OLDEST_KIND}: looking further")
    return False
