"""What the chart's pods may do, need and are told."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rowlock.api.v1alpha1 import DEFAULT_IMAGE
from rowlock_operator.kube.endpoint import PORT_NAME
from rowlock_operator.kube.settings import parse_settings
from tests.support.charts import NAMESPACE, VALUES, objects, of_kind, pod_specs, render

DIGEST = "sha256:" + "0123456789abcdef" * 4


def pods(values: str) -> dict[str, dict[str, Any]]:
    """Every pod that a set of values makes."""
    found = pod_specs(objects(render(values=VALUES[values])))
    assert len(found) == 2, "the operator and `helm test`"
    return found


def operator(*arguments: str, values: str = "default") -> dict[str, Any]:
    """The operator's container."""
    specs = pod_specs(objects(render(*arguments, values=VALUES[values])))
    (container,) = next(spec for name, spec in specs.items() if name.endswith("-operator"))["containers"]
    assert isinstance(container, dict)
    return container


def leader_rules_of(values: str) -> list[dict[str, Any]]:
    """The rules of leader election; where somebody else makes the roles, what the chart would make."""
    bodies = objects(render("--set=rbac.create=true", values=VALUES[values]))
    (role,) = (body for body in of_kind(bodies, "Role") if body["metadata"]["name"].endswith("-leader"))
    return list(role["rules"])


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}


@pytest.mark.parametrize("values", VALUES)
def test_every_pod_passes_the_restricted_standard(values: str) -> None:
    """Pod Security Standards, "restricted"; that it is enforced so is asked of an API server in tests/apiserver."""
    for spec in pods(values).values():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all(volume.keys() <= {"name", "emptyDir", "configMap"} for volume in spec.get("volumes", []))
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("values", VALUES)
def test_every_container_asks_for_what_it_needs_and_has_a_limit(values: str) -> None:
    for spec in pods(values).values():
        for container in spec["containers"]:
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert container["resources"]["limits"].keys() == {"cpu", "memory"}
        assert all(volume["emptyDir"].get("sizeLimit") for volume in spec.get("volumes", []) if "emptyDir" in volume)


def test_only_the_operator_has_access_to_the_api_server() -> None:
    specs = pods("default")
    assert {name: spec["automountServiceAccountToken"] for name, spec in specs.items()} == {
        "rowlock-operator": True,
        "rowlock-test": False,
    }
    (account,) = of_kind(objects(render()), "ServiceAccount")
    assert account["automountServiceAccountToken"] is False


def test_no_service_puts_its_address_into_the_operators_settings() -> None:
    """The Service rowlock-coordinator would give ROWLOCK_COORDINATOR_PORT=tcp://..., which is a flag's variable."""
    assert all(spec["enableServiceLinks"] is False for spec in pods("default").values())


def test_the_operator_is_told_where_it_is_reached_by_the_name_of_the_service_that_is_there() -> None:
    for name in ("rowlock", "crews"):
        bodies = objects(render(f"--set=fullnameOverride={name}"))
        services = {body["metadata"]["name"]: body["spec"] for body in of_kind(bodies, "Service")}
        (container,) = pod_specs(bodies)[f"{name}-operator"]["containers"]
        assert f"--coordinator-service={name}-coordinator" in container["args"]
        assert f"--coordinator-url=http://{name}-coordinator.{NAMESPACE}.svc:8480" in container["args"]
        # Without a selector, because the leader alone is meant: it writes the EndpointSlice itself.
        assert services[f"{name}-coordinator"].keys() == {"type", "ports"}
        (port,) = services[f"{name}-coordinator"]["ports"]
        # By name, because by name kube-proxy joins a slice's port to the Service's.
        assert (port["name"], port["port"]) == (PORT_NAME, 8480)
        assert environment(container)["ROWLOCK_POD_IP"] == {"fieldRef": {"fieldPath": "status.podIP"}}


@pytest.mark.parametrize("values", VALUES)
def test_the_operator_understands_what_it_is_told(values: str) -> None:
    container = operator(values=values)
    given = environment(container) | {"ROWLOCK_POD_IP": "10.1.2.3"}
    settings = parse_settings(
        container["args"], {name: value for name, value in given.items() if isinstance(value, str)}
    )
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (settings.coordinator_port, settings.probes_port) == (ports["coordinator"], ports["probes"])
    assert settings.launcher_image == container["image"]
    assert settings.trainer_image == given.get("ROWLOCK_TRAINER_IMAGE", DEFAULT_IMAGE)
    assert settings.election is not None
    rules = [rule for rule in leader_rules_of(values) if "resourceNames" in rule]
    named = {resource: rule["resourceNames"] for rule in rules for resource in rule["resources"]}
    assert named["leases"] == [settings.election.name]
    assert named["endpointslices"] == named["services"] == [settings.election.service]
    assert settings.coordinator_url == f"http://{settings.election.service}.{NAMESPACE}.svc:8480"


def test_the_operators_defaults_are_the_charts_names() -> None:
    container = operator()
    chart = parse_settings(container["args"], {"ROWLOCK_POD_IP": "10.1.2.3"})
    bare = parse_settings(["--coordinator-url=http://x:1", "--leader-elect", "--pod-ip=10.1.2.3"], {})
    assert chart.election == bare.election
    assert (chart.resync_seconds, chart.workers, chart.log_level) == (bare.resync_seconds, bare.workers, bare.log_level)


def test_metrics_are_served_by_the_pods_that_the_service_selects() -> None:
    bodies = objects(render())
    (deployment,) = of_kind(bodies, "Deployment")
    (service,) = (body["spec"] for body in of_kind(bodies, "Service") if "selector" in body["spec"])
    template = deployment["spec"]["template"]
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    assert [(port["port"], ports[port["targetPort"]]) for port in service["ports"]] == [(8481, 8481)]
    # The pod of `helm test` must not be taken for an operator.
    (test,) = of_kind(bodies, "Pod")
    assert not service["selector"].items() <= test["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("given", "image"),
    [
        ("image.pullPolicy=Always", "ghcr.io/rowlock/operator:0.1.0"),
        ("image.tag=edge", "ghcr.io/rowlock/operator:edge"),
        (f"image.digest={DIGEST}", f"ghcr.io/rowlock/operator@{DIGEST}"),
        (f"image.tag=edge,image.digest={DIGEST}", f"ghcr.io/rowlock/operator:edge@{DIGEST}"),
        ("image.repository=mirror:5000/operator", "mirror:5000/operator:0.1.0"),
    ],
)
def test_jobs_get_the_launcher_from_the_image_that_the_operator_runs(given: str, image: str) -> None:
    container = operator(f"--set={given}")
    assert container["image"] == image
    assert environment(container)["ROWLOCK_LAUNCHER_IMAGE"] == image


def test_the_trainer_image_is_the_operators_own_choice_unless_given() -> None:
    assert "ROWLOCK_TRAINER_IMAGE" not in environment(operator())
    mirror = "mirror:5000/trainer:0.1.0"
    assert environment(operator(f"--set=trainer.image={mirror}"))["ROWLOCK_TRAINER_IMAGE"] == mirror
    assert DEFAULT_IMAGE.endswith(":0.1.0")


def test_nobodys_variables_and_arguments_are_lost() -> None:
    container = operator(values="full")
    assert environment(container)["SSL_CERT_DIR"] == "/etc/corporate-ca"
    # The last of two wins at the command line.
    assert container["args"][-1] == "--log-level=warning"
    assert container["envFrom"] == [{"configMapRef": {"name": "proxy", "optional": True}}]


def test_a_label_given_to_pods_takes_none_out_of_its_deployment() -> None:
    (deployment,) = of_kind(objects(render(values=VALUES["full"])), "Deployment")
    selector, labels = (
        deployment["spec"]["selector"]["matchLabels"],
        deployment["spec"]["template"]["metadata"]["labels"],
    )
    assert selector.items() <= labels.items()
    assert labels["sidecar.istio.io/inject"] == "false"
    assert labels["app.kubernetes.io/part-of"] == "ml-platform"


def test_the_platform_may_choose_the_user() -> None:
    for spec in pods("openshift").values():
        assert spec["securityContext"].keys() == {"runAsNonRoot", "seccompProfile"}


def test_operators_spread_softly_and_by_their_own_labels() -> None:
    spread = pod_specs(objects(render()))["rowlock-operator"]["topologySpreadConstraints"]
    assert {part["whenUnsatisfiable"] for part in spread} == {"ScheduleAnyway"}
    (deployment,) = of_kind(objects(render()), "Deployment")
    assert all(part["labelSelector"] == deployment["spec"]["selector"] for part in spread)


def test_a_spread_with_a_selector_is_left_as_it_is() -> None:
    (part,) = pod_specs(objects(render(values=VALUES["full"])))["crews-operator"]["topologySpreadConstraints"]
    assert part["labelSelector"] == {"matchLabels": {"app.kubernetes.io/component": "operator"}}
    assert "matchLabelKeys" not in part


def test_a_new_operator_is_there_before_an_old_one_goes() -> None:
    (deployment,) = of_kind(objects(render()), "Deployment")
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    (recreated,) = of_kind(objects(render("--set=strategy.type=Recreate")), "Deployment")
    assert recreated["spec"]["strategy"] == {"type": "Recreate"}


def test_one_operator_never_blocks_a_drain() -> None:
    assert of_kind(objects(render()), "PodDisruptionBudget")[0]["spec"]["minAvailable"] == 1
    assert of_kind(objects(render("--set=replicas=1")), "PodDisruptionBudget") == []


def test_no_name_is_too_long_for_a_service() -> None:
    longest = "x" * 50
    for body in objects(render(f"--set=fullnameOverride={longest}")):
        if body["kind"] in ("Service", "Deployment"):
            assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", body["metadata"]["name"])
