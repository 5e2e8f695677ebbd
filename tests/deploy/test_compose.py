"""The compose file: what it mounts is there, its configuration is captiond's, and Prometheus may ask by its name."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from typer.main import get_command

from connectors.enqueue.references import source_of
from connectors.kafka.settings import KafkaSinkSettings
from daemon.__main__ import app
from daemon.config.file import load
from testing.repository import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_needs_is_there(service: str) -> None:
    for volume in SERVICES[service].get("volumes", ()):
        source = volume.split(":")[0]
        assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), volume
    assert set(SERVICES[service].get("depends_on", ())) <= set(SERVICES)
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[service].get("ports", ()))


def test_the_configuration_is_captionds_and_reads_what_is_enqueued() -> None:
    settings = load(DEPLOY / "compose" / "captiond.yaml", ())
    words = shlex.split(SERVICES["demo"]["command"][0].rpartition(";")[2])
    said = get_command(app).commands["enqueue"].make_context("enqueue", words[2:], resilient_parsing=True).params  # type: ignore[attr-defined]

    _, source = source_of(said["topic"], list(settings.sources.items()))
    assert Path(said["location"]) in source.references.roots
    made = SERVICES["topics"]["command"][0]
    assert isinstance(settings.sink, KafkaSinkSettings)
    for topic in (*source.topics, settings.sink.topic, settings.sink.dead_letter_topic):
        assert f" {topic}" in made
    mounted = next(one for one in SERVICES["captiond"]["volumes"] if one.endswith("/clips:ro"))
    assert mounted.split(":")[0] in [one.split(":")[0] for one in SERVICES["demo"]["volumes"]]


def test_prometheus_asks_by_a_name_that_is_served() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    settings = load(DEPLOY / "compose" / "captiond.yaml", ())

    name, port = target.split(":")
    assert name in SERVICES
    assert settings.http is not None
    assert name in settings.http.hosts
    assert settings.http.listen.endswith(f":{port}")
    assert int(SERVICES["captiond"]["stop_grace_period"].removesuffix("s")) > settings.timeouts.drain_s
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/captiond.yaml").read_text())["datasources"]
    assert urlsplit(source["url"]).hostname in SERVICES


def test_the_stand_ins_are_built_for_services_that_are_there() -> None:
    script, built = (DEPLOY / "build-without-registry").read_text(), (DEPLOY / "stand-ins/Containerfile").read_text()
    images = [service["image"].partition(":")[0].removeprefix("docker.io/") for service in SERVICES.values()]
    (names,) = re.findall(r"for image in (.*); do", script)

    for name in names.split():
        assert name in images
        assert f" AS {name.partition('/')[2]}\n" in built
    for file in ("build-without-registry", "check-image", "check-compose", "stand-ins/kafka.sh"):
        assert os.access(DEPLOY / file, os.X_OK)
        subprocess.run(["/bin/bash", "-n", DEPLOY / file], check=True)
    assert set(re.findall(r"for service in (kafka .*); do", (DEPLOY / "check-compose").read_text())[0].split()) == set(
        SERVICES
    ) - {"grafana"}
