"""The pod of a worker: the launcher inside the user's template."""

from __future__ import annotations

from typing import Any

import pytest

from rowlock import protocol
from rowlock.api.v1alpha1 import MAX_COMMAND_BYTES, MAX_WORKERS, JobStatus
from rowlock_operator.core.model import Job
from rowlock_operator.core.shape import spec_hash
from rowlock_operator.resources.launcher import PodSettings
from rowlock_operator.resources.names import pod_name
from rowlock_operator.resources.pod import build_pod
from tests.unit.resources.jobs import job

URL = "http://operator:8480"


def pod(worker: int = 0, **spec: Any) -> dict[str, Any]:
    return build_pod(job(**spec), worker, PodSettings(URL))


def template(**pod_spec: Any) -> dict[str, Any]:
    return {"template": {"spec": pod_spec}}


def trainer(built: dict[str, Any]) -> dict[str, Any]:
    container = built["spec"]["containers"][0]
    assert container["name"] == "trainer"
    assert isinstance(container, dict)
    return container


def environment(built: dict[str, Any]) -> dict[str, Any]:
    return {variable["name"]: variable for variable in trainer(built)["env"]}


def test_a_pod_is_named_after_its_place_and_never_restarts_by_itself() -> None:
    built = pod(1)
    assert built["metadata"]["name"] == built["spec"]["hostname"] == "digits-worker-1"
    assert built["spec"]["subdomain"] == "digits"
    assert built["spec"]["restartPolicy"] == "Never"
    assert built["metadata"]["labels"]["rowlock.dev/worker"] == "1"


def test_the_longest_name_still_fits_a_host_name() -> None:
    assert len(pod_name("j" * 50, MAX_WORKERS - 1)) <= 63


def test_a_launcher_is_told_all_it_needs_and_no_secret() -> None:
    told = environment(pod(1))
    config = protocol.decode(told["ROWLOCK_CONFIG"]["value"], protocol.WorkerConfig)
    assert (config.worker, config.workers, config.checkpoint.directory) == (1, 2, "/checkpoints/digits")
    assert told["ROWLOCK_COORDINATOR"]["value"] == URL
    assert told["ROWLOCK_TOKEN_FILE"]["value"] == "/var/run/rowlock/token"
    assert told["ROWLOCK_POD_UID"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"
    assert told["ROWLOCK_ADDRESS"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"


def test_a_dollar_in_a_command_reaches_the_launcher_as_it_is() -> None:
    value = environment(pod(command=["sh", "-c", "echo $(HOME) $$"]))["ROWLOCK_CONFIG"]["value"]
    # The kubelet turns $$ into $, and $(NAME) into that variable's value.
    assert "echo $$(HOME) $$$$" in value


def test_the_token_is_mounted_read_only_into_the_trainer_alone() -> None:
    built = pod(**template(containers=[{"name": "sidecar", "image": "busybox"}]))
    mounts = {mount["name"]: mount for mount in trainer(built)["volumeMounts"]}
    assert mounts["rowlock-token"] == {"name": "rowlock-token", "mountPath": "/var/run/rowlock", "readOnly": True}
    (volume,) = (one for one in built["spec"]["volumes"] if one["name"] == "rowlock-token")
    assert volume["secret"]["defaultMode"] == 0o440
    assert "volumeMounts" not in built["spec"]["containers"][1]


def test_pods_have_no_access_to_the_api_server() -> None:
    built = pod()
    assert built["spec"]["automountServiceAccountToken"] is False
    assert built["spec"]["enableServiceLinks"] is False


def test_the_template_wins_over_defaults() -> None:
    built = pod(
        **template(
            securityContext={"runAsUser": 1000, "runAsGroup": None},
            containers=[{"name": "trainer", "image": "own:1", "securityContext": {"readOnlyRootFilesystem": False}}],
            terminationGracePeriodSeconds=120,
        )
    )
    assert built["spec"]["securityContext"]["runAsUser"] == 1000
    assert "runAsGroup" not in built["spec"]["securityContext"]
    assert built["spec"]["securityContext"]["runAsNonRoot"] is True
    assert trainer(built)["image"] == "own:1"
    assert trainer(built)["securityContext"]["readOnlyRootFilesystem"] is False
    assert trainer(built)["securityContext"]["allowPrivilegeEscalation"] is False
    assert built["spec"]["terminationGracePeriodSeconds"] == 120


def test_the_operator_wins_where_it_must() -> None:
    container = {
        "name": "trainer",
        "env": [{"name": "ROWLOCK_TOKEN_FILE", "value": "/etc/passwd"}, {"name": "ROWLOCK_FAULT", "value": "kill@3"}],
    }
    labels = {"rowlock.dev/worker": "9", "team": "vision"}
    built = pod(template={"metadata": {"labels": labels}, "spec": {"containers": [container]}})
    names = [variable["name"] for variable in trainer(built)["env"]]
    assert names.count("ROWLOCK_TOKEN_FILE") == 1
    assert environment(built)["ROWLOCK_TOKEN_FILE"]["value"] == "/var/run/rowlock/token"
    assert environment(built)["ROWLOCK_FAULT"]["value"] == "kill@3"
    assert built["metadata"]["labels"]["rowlock.dev/worker"] == "0"
    assert built["metadata"]["labels"]["team"] == "vision"


def test_what_the_core_api_knows_passes_through_unchanged() -> None:
    volumes = [{"name": "scratch", "emptyDir": {}}]
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}
    limits = {"nvidia.com/gpu": 1, "cpu": "500m"}
    built = pod(
        **template(
            volumes=volumes, affinity=affinity, containers=[{"name": "trainer", "resources": {"limits": limits}}]
        )
    )
    assert volumes[0] in built["spec"]["volumes"]
    assert built["spec"]["affinity"] == affinity
    assert trainer(built)["resources"]["limits"] == limits


@pytest.mark.parametrize(("path", "own"), [("/tmp", "rowlock-tmp"), ("/dev/shm/", "rowlock-shm")])  # noqa: S108
def test_a_users_mount_takes_the_place_of_the_operators(path: str, own: str) -> None:
    mount = {"name": "fast", "mountPath": path}
    built = pod(
        **template(
            volumes=[{"name": "fast", "emptyDir": {}}], containers=[{"name": "trainer", "volumeMounts": [mount]}]
        )
    )
    names = [one["name"] for one in trainer(built)["volumeMounts"]]
    assert own not in names
    assert "fast" in names


def test_a_users_volume_takes_no_place_of_the_operators_whatever_it_is_called() -> None:
    given = [{"name": name, "emptyDir": {}} for name in ("checkpoints", "token", "tmp", "shm")]
    built = pod(**template(volumes=given))
    volumes = {volume["name"]: volume for volume in built["spec"]["volumes"]}
    assert len(volumes) == len(built["spec"]["volumes"]) == 8
    sources = {mount["mountPath"]: volumes[mount["name"]] for mount in trainer(built)["volumeMounts"]}
    assert sources["/checkpoints"]["persistentVolumeClaim"] == {"claimName": "digits-checkpoints"}
    assert sources["/var/run/rowlock"]["secret"]["secretName"] == "digits-token"


def test_every_volume_of_the_operators_has_a_name_that_a_template_may_not_use() -> None:
    assert {volume["name"].partition("-")[0] for volume in pod()["spec"]["volumes"]} == {"rowlock"}


def test_a_pod_says_of_which_spec_it_is() -> None:
    metadata = {"annotations": {"rowlock.dev/spec-hash": "forged", "team": "vision"}}
    built = pod(template={"metadata": metadata})
    of_job = spec_hash(job(template={"metadata": metadata}).spec)
    assert built["metadata"]["annotations"] == {"rowlock.dev/spec-hash": of_job, "team": "vision"}
    assert pod()["metadata"]["annotations"]["rowlock.dev/spec-hash"] != of_job


@pytest.mark.parametrize("letter", ["x", '"', "\x01", "\u00e9", "\u20ac", "\U0001d11e"])
def test_the_longest_command_fits_one_environment_variable(letter: str) -> None:
    words = MAX_COMMAND_BYTES // len(letter.encode())
    command = [letter] * 255 + [letter * (words - 255)]
    long_names = Job("n" * 63, "j" * 50, "u" * 36, 1, job(command=command).spec, JobStatus())
    told = environment(build_pod(long_names, MAX_WORKERS - 1, PodSettings(URL)))["ROWLOCK_CONFIG"]["value"]
    assert len(f"ROWLOCK_CONFIG={told}\0".encode()) <= 128 * 1024


def test_host_network_keeps_the_clusters_names() -> None:
    assert pod(**template(hostNetwork=True))["spec"]["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert "dnsPolicy" not in pod()["spec"]


def test_a_named_claim_is_used_as_it_is() -> None:
    built = pod(checkpoint={"storage": {"claimName": "shared"}})
    claims = [
        one["persistentVolumeClaim"]["claimName"] for one in built["spec"]["volumes"] if "persistentVolumeClaim" in one
    ]
    assert claims == ["shared"]
