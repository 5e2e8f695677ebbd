"""An override's value is read by what its key takes: text as it is, everything else as YAML."""

from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from daemon.config.file import settings_from
from daemon.config.settings import Settings

PLAIN: dict[str, Any] = {
    "sources": {"inbox": {"kind": "folder", "path": "inbox"}},
    "sink": {"kind": "folder", "path": "captions"},
}
KAFKA = {"kind": "kafka", "bootstrap_servers": "a:1", "topics": ["clips"]}


def read(*overrides: str) -> Settings:
    return settings_from({**PLAIN, "sources": {**PLAIN["sources"], "clips": KAFKA}}, overrides, folder=Path("/etc"))


@pytest.mark.parametrize(
    "text",
    [
        "Count people #fast",
        "#all",
        "a: b",
        '"quoted"',
        "it's",
        "[bold]",
        "{json}",
        "no",
        "010",
        "5",
        "- a",
        "*a",
        "&a",
        "!x",
        "a\nb",
        "a=b",
        " a ",
        "${HOME}",
        "$$",
        "yes: [",
    ],
)
def test_text_is_taken_as_it_is(text: str) -> None:
    settings = read(f"prompt.text={text}", f"sources.inbox.prompt.system={text}", f"engine.model={text}")
    engine: Any = settings.engine

    assert settings.prompt.text == text
    assert settings.sources["inbox"].prompt == {"system": text}
    assert engine.model == text


def test_a_path_is_text() -> None:
    settings: Any = read("sources.inbox.path=/clips #1", "sink.path=a: b")

    assert settings.sources["inbox"].path == Path("/clips #1")
    assert settings.sink.path == Path("/etc/a: b")


def test_everything_else_is_yaml() -> None:
    settings: Any = read(
        "windows.window_s=5",
        "generation.stop=['#', no]",
        "engine.args={enforce-eager: yes, seed: 3}",
        "engine.args.dtype_check=off",
        "sources.clips.senders_may.prompt=no",
        "sources.clips.topics=[a, on]",
        "sources.inbox.frames.num_frames=3",
        "limits.in_flight_bytes=64MiB",
        "http=null",
        "prompt={system: Be brief.}",
    )

    assert settings.windows.window_s == 5.0
    assert settings.generation.stop == ("#", "no")
    assert settings.engine.args == {"enforce-eager": True, "seed": 3, "dtype_check": False}
    assert (settings.sources["clips"].senders_may.prompt, settings.sources["clips"].topics) == (False, ("a", "on"))
    assert settings.sources["inbox"].frames == {"num_frames": 3}
    assert settings.limits.in_flight_bytes == 64 * 2**20
    assert settings.http is None
    assert settings.prompt.system == "Be brief."


@pytest.mark.parametrize("nothing", ["", "null"])
def test_a_key_that_may_be_without_a_value_loses_it(nothing: str) -> None:
    assert read("prompt.system=Be brief.", f"prompt.system={nothing}").prompt.system is None


def test_a_key_that_needs_text_does_not() -> None:
    with pytest.raises(ConfigurationError, match=r"prompt\.text"):
        read("prompt.text=")
    assert read("prompt.text=null").prompt.text == "null"


def test_a_value_that_is_not_yaml_names_its_key() -> None:
    with pytest.raises(ConfigurationError, match=r"windows\.window_s: .*is not YAML"):
        read("windows.window_s=[")
