"""A reload: what it takes, what it refuses, and with which words."""

from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError, ExitCode
from daemon.config.clip_settings import settings_by_source
from daemon.config.file import settings_from
from daemon.config.settings import Settings
from daemon.engines.fake import FakeEngine
from daemon.service.reload import Outcome, Reloader
from daemon.service.run_record import RunRecord

PLAIN: dict[str, Any] = {
    "sources": {"inbox": {"kind": "folder", "path": "inbox"}},
    "sink": {"kind": "folder", "path": "captions"},
    "engine": {"kind": "fake"},
}


def settings(**more: Any) -> Settings:
    return settings_from({**PLAIN, **more}, folder=Path("/nowhere"))


def reloader(fresh: Settings | Exception) -> Reloader:
    def read() -> Settings:
        if isinstance(fresh, Exception):
            raise fresh
        return fresh

    running = settings()
    return Reloader(running, read, settings_by_source(running), FakeEngine())


def test_prompts_windows_and_generation_take_effect() -> None:
    reload = reloader(settings(prompt={"text": "Who?"}, windows={"window_s": 4.0}, generation={"max_tokens": 9}))

    outcome, sentence = reload.reload()

    mine = reload.by_source["inbox"]
    assert outcome is Outcome.APPLIED
    assert (mine.prompt.text, mine.prompt.max_tokens, mine.windows.window_ns) == ("Who?", 9, 4_000_000_000)
    assert sentence.endswith("clips in flight keep what they started with.")
    assert reload.reload()[0] is Outcome.UNCHANGED


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"engine": {"kind": "fake", "slots": 3}}, "engine.slots"),
        ({"sink": {"kind": "folder", "path": "elsewhere"}}, "sink.path"),
        ({"sources": {"inbox": {"kind": "folder", "path": "other"}}}, "sources.inbox.path"),
        ({"timeouts": {"drain_s": 1.0}}, "timeouts.drain_s"),
        ({"http": None}, "http"),
    ],
)
def test_anything_else_needs_a_restart_and_then_nothing_changes(more: dict[str, Any], key: str) -> None:
    reload = reloader(settings(prompt={"text": "Who?"}, **more))

    outcome, sentence = reload.reload()

    assert (outcome, sentence) == (Outcome.REFUSED, f"Not reloaded: {key} needs a restart.")
    assert reload.by_source["inbox"].prompt.text != "Who?"


def test_folders_that_came_to_lie_in_each_other_since_the_start_are_refused(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    running = settings_from(PLAIN, folder=tmp_path)
    fresh = settings_from({**PLAIN, "prompt": {"text": "Who?"}}, folder=tmp_path)
    (tmp_path / "captions").symlink_to("inbox")

    outcome, sentence = Reloader(running, lambda: fresh, settings_by_source(running), FakeEngine()).reload()

    assert outcome is Outcome.REFUSED
    assert "sink.path" in sentence
    assert "sources.inbox.path" in sentence


def test_a_new_source_needs_a_restart() -> None:
    two = {**PLAIN["sources"], "doors": {"kind": "folder", "path": "doors"}}

    assert reloader(settings(sources=two)).reload() == (Outcome.REFUSED, "Not reloaded: sources.doors needs a restart.")


def test_a_broken_file_is_refused_with_its_sentence() -> None:
    outcome, sentence = reloader(ConfigurationError("unknown key", path="promt")).reload()

    assert (outcome, sentence) == (Outcome.REFUSED, "Not reloaded, the configuration is wrong: promt: unknown key.")


def test_more_frames_than_the_engine_was_started_for_need_a_restart() -> None:
    outcome, sentence = reloader(settings(frames={"num_frames": 64})).reload()

    assert outcome is Outcome.REFUSED
    assert "64 frames a window need a restart: the engine was started for 8" in sentence


def test_a_prompt_that_the_model_can_not_take_is_refused() -> None:
    outcome, sentence = reloader(settings(generation={"max_tokens": 200_000})).reload()

    assert outcome is Outcome.REFUSED
    assert "sources.inbox.prompt" in sentence


def test_how_earlier_runs_ended_is_counted(tmp_path: Path) -> None:
    for code in (ExitCode.ENGINE_LOST, ExitCode.ENGINE_LOST, None):
        record = RunRecord(tmp_path)
        record.begin()
        if code is not None:
            record.end(code)

    assert RunRecord(tmp_path).begin() == {"engine_lost": 2, "killed": 1}


def test_another_text_in_a_templates_file_takes_effect(tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages }}")

    def read() -> Settings:
        return settings_from({**PLAIN, "prompt": {"template": "mine.jinja"}}, folder=tmp_path)

    running = read()
    reload = Reloader(running, read, settings_by_source(running), FakeEngine())
    assert reload.reload()[0] is Outcome.UNCHANGED

    template.write_text("{{ messages }}!")
    outcome, sentence = reload.reload()

    assert (outcome, reload.by_source["inbox"].prompt.chat_template) == (Outcome.APPLIED, "{{ messages }}!")
    assert sentence.startswith("Reloaded: sources.inbox.prompt.template changed")
    template.write_text("{% if %}")
    assert reload.reload()[0] is Outcome.REFUSED


@pytest.mark.parametrize("where", ["top", "source"])
def test_windows_of_a_stream_stay_where_they_are_on_the_wall_clock(where: str) -> None:
    def with_stream(window_s: float, text: str) -> Settings:
        window = {"window_s": window_s}
        stream = {"kind": "stream", "url": "rtsp://camera/1", "windows": window if where == "source" else {}}
        sources = {**PLAIN["sources"], "cam": stream}
        return settings(sources=sources, prompt={"text": text}, **({"windows": window} if where == "top" else {}))

    running, others = with_stream(4.0, "Who?"), [with_stream(8.0, "Who?"), with_stream(4.0, "What?")]
    reload = Reloader(running, lambda: others.pop(0), settings_by_source(running), FakeEngine())

    assert reload.reload() == (Outcome.REFUSED, "Not reloaded: windows of the stream cam need a restart.")
    assert reload.by_source["cam"].windows.window_ns == 4_000_000_000
    assert reload.reload()[0] is Outcome.APPLIED
    assert reload.by_source["cam"].prompt.text == "What?"
