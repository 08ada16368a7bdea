"""The launcher in images of the user's own: copied there by an init container, or there already."""

from __future__ import annotations

from typing import Any

import pytest

from rowlock.api.v1alpha1 import DEFAULT_IMAGE
from rowlock_operator.resources.launcher import PodSettings
from rowlock_operator.resources.pod import build_pod
from tests.unit.resources.jobs import job

OPERATOR = "registry.example.com/rowlock/operator:0.1.0"
MIRROR = "registry.example.com/rowlock/trainer:0.1.0"
OWN = "registry.example.com/team/torch:2"


def pod(settings: PodSettings, **spec: Any) -> dict[str, Any]:
    built: dict[str, Any] = build_pod(job(**spec), 0, settings)["spec"]
    return built


def copying(**spec: Any) -> dict[str, Any]:
    return pod(PodSettings("http://op:8480", launcher_image=OPERATOR), **spec)


def test_an_image_of_the_users_own_gets_the_launcher_copied_into_it() -> None:
    built = copying(image=OWN)
    (copy,) = built["initContainers"]
    (volume,) = (one for one in built["volumes"] if one["name"] == "rowlock-launcher")
    trainer = built["containers"][0]
    assert (copy["name"], copy["image"]) == ("rowlock-launcher", OPERATOR)
    assert copy["command"] == ["cp", "-R", "/opt/rowlock/launcher", "/rowlock/"]
    assert copy["volumeMounts"] == [{"name": "rowlock-launcher", "mountPath": "/rowlock"}]
    assert volume["emptyDir"]["sizeLimit"]
    assert {"name": "rowlock-launcher", "mountPath": "/opt/rowlock", "readOnly": True} in trainer["volumeMounts"]
    assert (trainer["image"], trainer["command"]) == (OWN, ["python3", "/opt/rowlock/launcher"])


def test_the_path_that_is_copied_is_the_path_that_is_started() -> None:
    copy, trainer = copying(image=OWN)["initContainers"][0], copying(image=OWN)["containers"][0]
    (mount,) = (one for one in trainer["volumeMounts"] if one["name"] == "rowlock-launcher")
    *_, source, target = copy["command"]
    arrived = f"{mount['mountPath']}/{source.rpartition('/')[2]}"
    assert target.rstrip("/") == copy["volumeMounts"][0]["mountPath"]
    assert trainer["command"][-1] == arrived


@pytest.mark.parametrize("image", [DEFAULT_IMAGE, MIRROR])
def test_the_releases_own_image_wherever_it_is_pulled_from_has_the_launcher_in_it(image: str) -> None:
    built = pod(PodSettings("http://op:8480", OPERATOR, MIRROR), image=image)
    trainer = built["containers"][0]
    assert "initContainers" not in built
    assert trainer["image"] == MIRROR
    assert trainer["command"] == ["python3", "-m", "rowlock_trainer.launcher.main"]


def test_without_a_launcher_image_nothing_is_copied() -> None:
    built = pod(PodSettings("http://op:8480"), image=OWN)
    assert "initContainers" not in built
    assert "rowlock-launcher" not in {volume["name"] for volume in built["volumes"]}
    assert built["containers"][0]["command"] == ["python3", "-m", "rowlock_trainer.launcher.main"]


def test_the_image_of_the_template_counts_before_the_jobs() -> None:
    template = {"spec": {"containers": [{"name": "trainer", "image": OWN}]}}
    built = copying(image=DEFAULT_IMAGE, template=template)
    assert built["containers"][0]["image"] == OWN
    assert built["initContainers"][0]["image"] == OPERATOR
    template = {"spec": {"containers": [{"name": "trainer", "image": DEFAULT_IMAGE}]}}
    assert "initContainers" not in copying(image=OWN, template=template)


def test_the_users_own_init_containers_come_after_it() -> None:
    given = [{"name": "fetch", "image": "fetch:1"}, {"name": "sidecar", "image": "side:1", "restartPolicy": "Always"}]
    built = copying(image=OWN, template={"spec": {"initContainers": given}})
    assert [one["name"] for one in built["initContainers"]] == ["rowlock-launcher", "fetch", "sidecar"]
    assert built["initContainers"][1:] == given


def test_copying_passes_the_restricted_pod_security_standard_and_has_its_limits() -> None:
    built = copying(image=OWN)
    (copy,) = built["initContainers"]
    security = copy["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    assert built["securityContext"]["runAsNonRoot"] is True
    # Equal, or a pod whose trainer asks for the class Guaranteed would be Burstable.
    assert copy["resources"]["requests"] == copy["resources"]["limits"]
    assert set(copy["resources"]["limits"]) == {"cpu", "memory"}


def test_pulling_is_left_to_the_api_servers_defaults_and_the_users_pull_secrets() -> None:
    built = copying(image=OWN, template={"spec": {"imagePullSecrets": [{"name": "registry"}]}})
    assert "imagePullPolicy" not in built["initContainers"][0]
    assert built["imagePullSecrets"] == [{"name": "registry"}]


def test_no_variable_of_the_users_environment_is_touched() -> None:
    given = [{"name": "PYTHONPATH", "value": "/app"}]
    template = {"spec": {"containers": [{"name": "trainer", "env": given}]}}
    built = copying(image=OWN, template=template)
    assert [one for one in built["containers"][0]["env"] if one["name"].startswith("PYTHON")] == given


@pytest.mark.parametrize(
    ("named", "mirror", "pulled"),
    [
        ("ghcr.io/rowlock/trainer:0.0.9", MIRROR, "registry.example.com/rowlock/trainer:0.0.9"),
        ("ghcr.io/rowlock/trainer:0.0.9", "mirror:5000/trainer", "mirror:5000/trainer:0.0.9"),
        ("ghcr.io/rowlock/trainer@sha256:ab", "mirror:5000/trainer:1", "mirror:5000/trainer@sha256:ab"),
        (DEFAULT_IMAGE, "mirror:5000/trainer@sha256:ab", "mirror:5000/trainer@sha256:ab"),
        ("ghcr.io/rowlock/trainer:0.0.9", DEFAULT_IMAGE, "ghcr.io/rowlock/trainer:0.0.9"),
    ],
)
def test_a_job_made_under_another_release_is_pulled_from_the_mirror_with_its_own_tag(
    named: str, mirror: str, pulled: str
) -> None:
    built = pod(PodSettings("http://op:8480", OPERATOR, mirror), image=named)
    assert built["containers"][0]["image"] == pulled
    assert "initContainers" not in built, "every release's trainer image has the launcher in it"


@pytest.mark.parametrize("named", ["ghcr.io/rowlock/trainers:1", "ghcr.io:443/rowlock/trainer:1", "trainer:0.1.0"])
def test_an_image_that_only_sounds_like_the_releases_is_left_alone(named: str) -> None:
    built = pod(PodSettings("http://op:8480", OPERATOR, MIRROR), image=named)
    assert built["containers"][0]["image"] == named
    assert built["initContainers"][0]["name"] == "rowlock-launcher"


def test_a_crew_that_began_with_another_releases_launcher_gets_that_one() -> None:
    begun = job(image=OWN)
    begun.status.launcher_image = "registry.example.com/rowlock/operator:0.0.9"
    built = build_pod(begun, 0, PodSettings("http://op:8480", launcher_image=OPERATOR))["spec"]
    assert built["initContainers"][0]["image"] == "registry.example.com/rowlock/operator:0.0.9"


def test_the_launchers_image_is_pulled_as_the_operators_is() -> None:
    built = pod(PodSettings("http://op:8480", OPERATOR, launcher_pull_policy="Never"), image=OWN)
    assert built["initContainers"][0]["imagePullPolicy"] == "Never"
