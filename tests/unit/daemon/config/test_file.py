"""A configuration is read whole, or refused with the key's path."""

from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from daemon.config.file import load, settings_from
from testing.repository import ROOT

MINIMAL: dict[str, Any] = {
    "sources": {"inbox": {"kind": "folder", "path": "inbox"}},
    "sink": {"kind": "folder", "path": "captions"},
}


def read(*overrides: str, folder: Path = Path("/etc/captiond"), **more: Any) -> Any:
    return settings_from({**MINIMAL, **more}, overrides, folder=folder)


def test_defaults_work() -> None:
    settings = read()

    assert settings.windows.window_s == 10.0
    assert settings.frames.num_frames == 8
    assert settings.engine.kind == "vllm"


def test_an_engine_without_a_kind_is_vllm() -> None:
    assert read(engine={"model": "somewhere"}).engine.kind == "vllm"


def test_relative_paths_are_relative_to_the_file() -> None:
    settings = read()

    assert settings.sources["inbox"].path == Path("/etc/captiond/inbox")
    assert settings.sink.path == Path("/etc/captiond/captions")
    assert settings.state_dir == Path("/etc/captiond/state")


@pytest.mark.parametrize("override", ["windows.window_s=20", "--", "+windows.window_s=20"])
def test_overrides(override: str) -> None:
    if override == "--":
        with pytest.raises(ConfigurationError, match="not an override"):
            read(override)
        return

    assert read(override).windows.window_s == 20.0


REFUSED = [
    ({"windws": {}}, "windws: unknown key; do you mean 'windows'"),
    ({"windows": {"windw_s": 3}}, "windows.windw_s: unknown key; do you mean 'window_s'"),
    ({"windows": {"window_s": "ten"}}, "windows.window_s: .*number.*'ten'"),
    ({"windows": {"window_s": 5, "stride_s": 10}}, "windows: stride_s .* above window_s"),
    ({"windows": {"policy": "whole", "window_s": 5}}, "windows: policy: whole contradicts"),
    ({"frames": {"fps": 2, "num_frames": 4}}, "frames: fps and num_frames contradict"),
    ({"frames": {"rule": "neva", "fps": 2}}, "frames: rule: neva takes num_frames"),
    ({"engine": {"kind": "vlm"}}, "engine"),
    ({"engine": {"kind": "vllm", "modell": "x"}}, "engine.modell: unknown key; do you mean 'model'"),
    (
        {"engine": {"kind": "fake", "model": "x"}},
        "engine.model: unknown key; it stands at engine.model with kind: vllm",
    ),
    ({"num_frames": 8}, "num_frames: unknown key; it stands at frames.num_frames$"),
    ({"engine": {"kind": "openai", "base_urls": ["nowhere"], "model": "m"}}, "engine.base_urls: 'nowhere' is no URL"),
    ({"engine": {"kind": "openai", "base_urls": ["http://a:b/v1"], "model": "m"}}, "engine.base_urls: .*is no URL"),
    ({"sources": {}}, "sources: .*at least 1"),
    ({"sources": {"inbox": {"kind": "folder"}}}, "sources.inbox.path: this key is needed"),
    ({"sink": {"kind": "folder", "path": "x", "pth": 1}}, "sink.pth: unknown key"),
    ({"limits": {"in_flight_bytes": "1 lightyear"}}, "limits.in_flight_bytes: .*64MiB"),
    ({"http": {"listen": "nowhere"}}, "http.listen"),
    ({"generation": {"min_tokens": 9, "max_tokens": 3}}, "generation: min_tokens .* above max_tokens"),
]


@pytest.mark.parametrize(("more", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_refused_with_the_path(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(**more)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(windows={"window_s": -1}, frames={"num_frames": 0})

    assert "windows.window_s" in str(caught.value)
    assert "frames.num_frames" in str(caught.value)


def test_sizes_have_units() -> None:
    assert read(limits={"in_flight_bytes": "64MiB"}).limits.in_flight_bytes == 64 * 2**20


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUESTION", "What moves?")

    assert read(prompt={"text": "${QUESTION}"}).prompt.text == "What moves?"
    assert read(prompt={"text": "${NOT_THERE:Describe.}"}).prompt.text == "Describe."
    with pytest.raises(ConfigurationError, match=r"prompt.text: the environment has no NOT_THERE"):
        read(prompt={"text": "${NOT_THERE}"})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read"):
        load(tmp_path / "none.yaml")


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    file = tmp_path / "captiond.yaml"
    file.write_text("sink: {kind: folder, path: a}\nsink: {kind: folder, path: b}\n")

    with pytest.raises(ConfigurationError, match="'sink' stands twice"):
        load(file)


@pytest.mark.parametrize("text", ["- a\n", "a: [", "\x00"])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    file = tmp_path / "captiond.yaml"
    file.write_text(text)

    with pytest.raises(ConfigurationError):
        load(file)


def test_the_file_that_ships_configures_what_is_so_without_it() -> None:
    file = ROOT / "config" / "captiond.yaml"
    shipped = load(file)

    assert shipped == settings_from({"sources": shipped.sources, "sink": shipped.sink}, folder=file.parent)
