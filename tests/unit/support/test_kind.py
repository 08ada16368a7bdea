"""What the kind cluster asks of docker, kind and kubectl: each a program that writes down its words and plays its part.

There is no daemon here; what is asked is compared with what these programs document.
"""

from __future__ import annotations

import base64
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.cluster import attach, kind, kind_config
from tests.support.cluster.__main__ import load
from tests.support.cluster.kind import REGISTRY_IMAGE, KindCluster
from tests.support.cluster.kind_config import KindLayout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Writes down its name and words, a line each call, and what comes in; then does as the test's own script says.
RECORDER = """#!/bin/sh
[ "$1 $2" = "exec --interactive" ] && cat > "{records}/stdin"
[ "$2 $3" = "apply --filename=-" ] && cat > "{records}/applied"
echo "{name} $*" >> "{records}/calls"
case "{name} $*" in
{answers}
*) exit 0 ;;
esac
"""
ANSWERS = r"""
"docker version") exit 0 ;;
"docker inspect --format={{.State.Running}}"*) echo true ;;
"docker inspect --format={{(index"*) echo 172.18.0.4 ;;
"docker image inspect"*"nothing"*) exit 1 ;;
"docker image inspect"*) echo sha256:0123456789abcdef0123456789abcdef ;;
"kind version") echo "kind v0.33.0 go1.26 linux/amd64" ;;
"kind get nodes"*) printf '%s\n' rowlock-worker2 rowlock-control-plane rowlock-worker ;;
"kubectl"*"create token"*) echo a-token ;;
"kubectl"*"get pvc"*) printf pvc-1 ;;
"kubectl"*"get pv "*) printf /var/rowlock-volumes/pvc-1_team_crew-checkpoints ;;
"kubectl"*"get deployments"*) printf 'rowlock-system rowlock-system ' ;;
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A machine with Docker; gives what was asked of its programs since the last look."""
    programs, records = tmp_path / "programs", tmp_path / "records"
    programs.mkdir()
    records.mkdir()
    for name in ("docker", "kind", "kubectl"):
        script = RECORDER.replace("{name}", name).replace("{records}", str(records)).replace("{answers}", ANSWERS)
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("ROWLOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(attach.VARIABLE, raising=False)
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    kind.kind_program.cache_clear()
    kind.kubectl_program.cache_clear()

    def look() -> list[str]:
        path = records / "calls"
        found = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line for line in found if line not in ("docker version", "kind version")]

    return look


@pytest.fixture(autouse=True)
def forget_programs() -> Any:
    yield
    kind.kind_program.cache_clear()
    kind.kubectl_program.cache_clear()


def kubectl(*words: str) -> str:
    return " ".join(["kubectl", f"--kubeconfig={KindLayout.default().kubeconfig}", *words])


# --- configuration ------------------------------------------------------------------------------------


def test_pods_have_nodes_of_their_own_and_all_nodes_share_one_folder(tmp_path: Path) -> None:
    config = yaml.safe_load(kind_config.cluster_config(KindLayout(tmp_path), 3))
    assert [node["role"] for node in config["nodes"]] == ["control-plane", "worker", "worker", "worker"]
    shared = {"hostPath": str(tmp_path / "volumes"), "containerPath": kind_config.SHARED}
    assert all(shared in node["extraMounts"] for node in config["nodes"])


def test_the_api_server_finds_the_audit_policy_where_it_is_mounted(tmp_path: Path) -> None:
    control_plane = yaml.safe_load(kind_config.cluster_config(KindLayout(tmp_path), 1))["nodes"][0]
    (patch,) = [yaml.safe_load(text) for text in control_plane["kubeadmConfigPatches"]]
    arguments = {one["name"]: one["value"] for one in patch["apiServer"]["extraArgs"]}
    (volume,) = patch["apiServer"]["extraVolumes"]
    into_node = {one["hostPath"]: one["containerPath"] for one in control_plane["extraMounts"]}
    assert volume["hostPath"] == volume["mountPath"] == into_node[str(tmp_path / "audit")]
    assert not volume.get("readOnly", False)
    assert arguments["audit-policy-file"] == f"{volume['mountPath']}/policy.yaml"
    assert arguments["audit-log-path"] == f"{volume['mountPath']}/audit.log"
    assert yaml.safe_load(kind_config.audit_policy())["rules"] == [{"level": "Metadata"}]


def test_releases_and_the_tests_own_names_are_pulled_from_the_local_registry() -> None:
    hosts = kind_config.registry_hosts()
    assert set(hosts) == {f"/etc/containerd/certs.d/{name}/hosts.toml" for name in ("ghcr.io", "registry.rowlock.test")}
    assert all('[host."http://rowlock-registry:5000"]' in text for text in hosts.values())
    assert kind_config.pushed_name("ghcr.io/rowlock/trainer:0.1.0") == "localhost:5001/rowlock/trainer:0.1.0"


def test_the_provisioner_makes_volumes_in_the_shared_folder_only() -> None:
    # It refuses a configuration that names paths of single nodes too.
    patch = json.loads(kind_config.provisioner_patch())
    assert json.loads(patch["data"]["config.json"]) == {"sharedFileSystemPath": "/var/rowlock-volumes"}


# --- a cluster's life ---------------------------------------------------------------------------------


def test_up_removes_what_was_there_and_ends_with_images_on_the_nodes(calls: Callable[[], list[str]]) -> None:
    KindCluster.up(2, ["ghcr.io/rowlock/torch:0.1.0", "ghcr.io/rowlock/operator:0.1.0"])
    said, layout = calls(), KindLayout.default()
    steps = [
        f"kind delete cluster --name=rowlock --kubeconfig={layout.kubeconfig}",
        "docker rm --force --volumes rowlock-registry",
        f"kind create cluster --name=rowlock --config={layout.state}/kind.yaml --wait=180s "
        f"--kubeconfig={layout.kubeconfig}",
        "docker run --detach --network=kind --name=rowlock-registry --publish=127.0.0.1:5001:5000 "
        "docker.io/library/registry:2",
        "docker exec --interactive rowlock-worker cp /dev/stdin /etc/containerd/certs.d/ghcr.io/hosts.toml",
        kubectl("rollout restart deployment/local-path-provisioner --namespace=local-path-storage"),
        kubectl("delete storageclass standard --ignore-not-found"),
        kubectl("apply --filename=-"),
        "docker tag ghcr.io/rowlock/operator:0.1.0 localhost:5001/rowlock/operator:0.1.0",
        "docker push --quiet localhost:5001/rowlock/operator:0.1.0",
        "docker exec rowlock-worker crictl pull ghcr.io/rowlock/operator:0.1.0",
    ]
    places = [said.index(step) for step in steps]
    assert places == sorted(places)
    assert (layout.audit / "policy.yaml").exists()
    assert (layout.audit / "audit.log").stat().st_mode & 0o444 == 0o444


def test_every_node_learns_of_the_registry(calls: Callable[[], list[str]], tmp_path: Path) -> None:
    KindCluster.up(2)
    told = [line.split()[3] for line in calls() if line.startswith("docker exec --interactive")]
    assert sorted(set(told)) == ["rowlock-control-plane", "rowlock-worker", "rowlock-worker2"]
    assert (tmp_path / "records" / "stdin").read_text() == next(iter(kind_config.registry_hosts().values()))
    assert json.loads((tmp_path / "records" / "applied").read_text())["metadata"]["name"] == "shared"


def test_images_that_were_not_built_are_not_loaded(calls: Callable[[], list[str]]) -> None:
    KindCluster.up(2, ["ghcr.io/rowlock/nothing:0.1.0"])
    assert not [line for line in calls() if "push" in line or "crictl" in line]


def test_down_empties_the_shared_folder_as_root_and_leaves_nothing(calls: Callable[[], list[str]]) -> None:
    KindCluster.up(1)
    calls()
    kind.down()
    said = calls()
    emptied = (
        f"docker run --rm --volume={KindLayout.default().state}:/var/rowlock-volumes --entrypoint=find "
        f"{REGISTRY_IMAGE} /var/rowlock-volumes -mindepth 1 -delete"
    )
    deleted = f"kind delete cluster --name=rowlock --kubeconfig={KindLayout.default().kubeconfig}"
    assert said.index(emptied) < said.index(deleted)
    assert not KindLayout.default().state.exists()


# --- faults -------------------------------------------------------------------------------------------


def test_faults_befall_the_node_that_is_named(calls: Callable[[], list[str]]) -> None:
    cluster = KindCluster(KindLayout.default())
    assert cluster.node_names == ["rowlock-worker", "rowlock-worker2"]
    calls()
    cluster.power_off("rowlock-worker2")
    cluster.power_on("rowlock-worker2")
    cluster.kill_container("rowlock-worker", "abc")
    cluster.on_node("rowlock-worker", "iptables", "-w", "-L")
    assert calls() == [
        "docker kill rowlock-worker2",
        "docker start rowlock-worker2",
        "docker exec rowlock-worker ctr -n k8s.io tasks kill --signal=SIGKILL abc",
        "docker exec rowlock-worker iptables -w -L",
    ]


def test_the_api_server_goes_and_comes_with_its_manifest(calls: Callable[[], list[str]], tmp_path: Path) -> None:
    cluster = KindCluster(KindLayout.default())
    script = tmp_path / "programs" / "kubectl"
    answering = script.read_text()
    script.write_text("#!/bin/sh\nexit 1\n")
    cluster.stop_apiserver()
    script.write_text(answering)
    cluster.start_apiserver()
    manifest, aside = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/kube-apiserver.yaml"
    assert calls() == [
        f"docker exec rowlock-control-plane mv {manifest} {aside}",
        f"docker exec rowlock-control-plane mv {aside} {manifest}",
        kubectl("get --raw=/readyz --request-timeout=5s"),
    ]


# --- what tests look at -------------------------------------------------------------------------------


def test_a_volume_is_found_below_the_shared_folder(calls: Callable[[], list[str]]) -> None:
    found = KindCluster(KindLayout.default()).volume("team", "crew-checkpoints")
    assert found == KindLayout.default().volumes / "pvc-1_team_crew-checkpoints"
    assert calls()[0] == kubectl("get pvc -n team crew-checkpoints --output=jsonpath={.spec.volumeName}")


def test_the_tests_client_takes_address_and_authority_from_the_kubeconfig(
    calls: Callable[[], list[str]], authority: bytes
) -> None:
    cluster = KindCluster(KindLayout.default())
    cluster.kubeconfig.parent.mkdir(parents=True)
    entry = {"server": "https://127.0.0.1:34567", "certificate-authority-data": base64.b64encode(authority).decode()}
    cluster.kubeconfig.write_text(yaml.safe_dump({"clusters": [{"cluster": entry}]}))
    assert cluster.api().url == "https://127.0.0.1:34567"
    assert calls() == [kubectl("create token rowlock-tests --namespace=kube-system --duration=24h")]
    assert cluster.api_address == ("172.18.0.4", 6443)


def test_where_docker_answers_the_cluster_is_one_of_kind(calls: Callable[[], list[str]], tmp_path: Path) -> None:
    assert attach.sort_of_machine() == "kind"
    assert isinstance(attach.attach(), KindCluster)
    script = tmp_path / "programs" / "docker"
    script.write_text("#!/bin/sh\nexit 1\n")
    assert attach.sort_of_machine() == "native"


def test_a_kind_that_is_too_old_is_passed_over(calls: Callable[[], list[str]], tmp_path: Path) -> None:
    script = tmp_path / "programs" / "kind"
    script.write_text("#!/bin/sh\necho kind v0.20.0 go1.20 linux/amd64\n")
    go = tmp_path / "programs" / "go"
    head = '#!/bin/sh\n[ "$1" = env ] && { echo go1.99; exit; }\n'
    go.write_text(head + 'while [ "$1" != -o ]; do shift; done\n: > "$2"\n')
    go.chmod(0o755)
    assert kind.kind_program().is_relative_to(tmp_path / "cache")


def test_load_brings_every_image_and_restarts_the_operator_once(calls: Callable[[], list[str]]) -> None:
    load(KindCluster(KindLayout.default()))
    said = calls()
    for name in ("torch", "trainer", "operator"):
        assert f"docker push --quiet localhost:5001/rowlock/{name}:0.1.0" in said
    restarts = [line for line in said if "rollout restart" in line]
    assert restarts == [
        kubectl("rollout restart deployment --selector app.kubernetes.io/name=rowlock --namespace rowlock-system")
    ]


@pytest.fixture
def authority(tmp_path: Path) -> bytes:
    """A certificate that Python will load."""
    words = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=test",
        "-days",
        "1",
    ]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "crt")]
    subprocess.run(["openssl", *words, *files], check=True, capture_output=True)
    return (tmp_path / "crt").read_bytes()


def test_the_sort_that_is_asked_for_goes_before_what_the_machine_has(
    calls: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(attach.VARIABLE, "native")
    assert attach.sort_of_machine() == "native"
    monkeypatch.setenv(attach.VARIABLE, "k3s")
    with pytest.raises(ValueError, match="ROWLOCK_CLUSTER is 'k3s', must be kind or native"):
        attach.sort_of_machine()
