"""Weak settings are said, by `check` and at the start of the daemon, and strong ones are not."""

from pathlib import Path
from typing import Any

import pytest

from daemon.config.file import settings_from
from daemon.config.weak_settings import weak_settings

SASL = {"sasl_mechanism": "PLAIN", "sasl_username": "captiond"}


def said(folder: Path, **changes: Any) -> list[str]:
    """Return the sentences about a configuration of folders, with these keys in place of its own."""
    plain = {"sources": {"inbox": {"kind": "folder", "path": "in"}}, "sink": {"kind": "folder", "path": "out"}}
    return weak_settings(settings_from({**plain, **changes}, folder=folder))


def kafka(**keys: Any) -> dict[str, Any]:
    return {"clips": {"kind": "kafka", "bootstrap_servers": "broker:9092", "topics": ["clips"], **keys}}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("hunter2")
    file.chmod(0o600)
    return file


def test_the_defaults_are_not_weak(tmp_path: Path) -> None:
    assert said(tmp_path) == []


@pytest.mark.parametrize(("listen", "weak"), [
    ("0.0.0.0:8480", True), ("[::]:8480", True), ("10.0.0.5:80", True), ("status.example.org:80", True),
    ("127.0.0.1:80", False), ("127.8.8.8:80", False), ("[::1]:80", False), ("localhost:80", False), (None, False),
])  # fmt: skip
def test_a_port_that_other_machines_reach(listen: str | None, weak: bool, tmp_path: Path) -> None:
    lines = said(tmp_path, http={"listen": listen})

    assert [line.startswith(f"http.listen: {listen} is open to other machines") for line in lines] == [True] * weak


@pytest.mark.parametrize(("mode", "can"), [
    (0o666, "read and write"), (0o644, "read"), (0o602, "write"), (0o640, None), (0o400, None),
])  # fmt: skip
def test_a_secret_that_others_may_read(mode: int, can: str | None, secret: Path, tmp_path: Path) -> None:
    secret.chmod(mode)
    source = kafka(security_protocol="SASL_SSL", password_file=str(secret), **SASL)
    engine = {"kind": "openai", "base_urls": ["https://gpu/v1"], "model": "m", "api_key_file": str(secret)}

    lines = said(tmp_path, sources=source, engine=engine)

    expected = ["engine.api_key_file", "sources.clips.password_file"] if can else []
    assert lines == [
        f"{path}: every user of this machine may {can} {secret} (mode {mode:04o}): chmod 0600." for path in expected
    ]


@pytest.mark.parametrize(("mechanism", "words"), [
    ("PLAIN", "the password and every clip and caption go"), ("SCRAM-SHA-256", "all data goes"),
])  # fmt: skip
def test_sasl_without_encryption(mechanism: str, words: str, secret: Path, tmp_path: Path) -> None:
    keys = {"security_protocol": "SASL_PLAINTEXT", "password_file": str(secret), **SASL, "sasl_mechanism": mechanism}
    sink = {"kind": "kafka", "bootstrap_servers": "broker:9092", **keys}

    lines = said(tmp_path, sources=kafka(**keys), sink=sink)

    assert [line.partition(":")[0] for line in lines] == ["sources.clips.security_protocol", "sink.security_protocol"]
    assert all(f"with SASL_PLAINTEXT {words} over the network unencrypted" in line for line in lines)


def test_a_broker_whose_name_is_not_checked(tmp_path: Path) -> None:
    source = kafka(security_protocol="SSL", consumer={"ssl_check_hostname": False})
    sink = {"kind": "kafka", "bootstrap_servers": "broker:9092", "security_protocol": "SSL"}

    (line,) = said(tmp_path, sources=source, sink=sink | {"producer": {"ssl_check_hostname": True}})

    assert line.startswith("sources.clips.consumer.ssl_check_hostname: false lets any machine")


@pytest.mark.parametrize(("url", "weak"), [
    ("http://gpu.example.org:8000/v1", True), ("http://10.0.0.5/v1", True), ("http://127.0.0.1:8000/v1", False),
    ("https://gpu.example.org/v1", False),
])  # fmt: skip
def test_a_key_that_goes_over_the_network_unencrypted(url: str, weak: bool, secret: Path, tmp_path: Path) -> None:
    engine = {"kind": "openai", "base_urls": [url], "model": "m", "api_key_file": str(secret)}

    lines = said(tmp_path, engine=engine)

    assert ["the key and every frame go to" in line for line in lines] == [True] * weak


def test_clips_that_come_unencrypted(tmp_path: Path) -> None:
    prefixes = ["http://media.example.org/a/", "https://media.example.org/a/", "http://127.0.0.1/"]

    (line,) = said(tmp_path, sources=kafka(references={"url_prefixes": prefixes}))

    assert "clips under http://media.example.org/a/ come unencrypted" in line
