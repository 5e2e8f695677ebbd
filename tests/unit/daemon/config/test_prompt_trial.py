"""Prompts that fit no window are refused before a clip is taken, with the key that they come from."""

from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError, Poison, Reason
from daemon.commands.check import check
from daemon.config.file import settings_from
from daemon.config.prompt_trial import check_prompts
from daemon.config.settings import Settings
from daemon.engines.fake import FakeTokenPlanner
from daemon.engines.model.token_planner import RemoteTokenPlanner, check_context
from daemon.prompts.prompt import Prompt
from neva import registration

CONTEXT = 400
PLACES: dict[str, Any] = {
    "sources": {"inbox": {"kind": "folder", "path": "inbox"}, "yard": {"kind": "folder", "path": "yard"}},
    "sink": {"kind": "folder", "path": "captions"},
    "engine": {"kind": "fake"},
}


@pytest.fixture(autouse=True)
def conversations() -> None:
    registration.register()


class SmallModel(FakeTokenPlanner):
    """A model with a small context, without system messages, that large frames do not fit."""

    max_model_len = CONTEXT

    def check(
        self, prompt: Prompt, num_frames: int, height: int, width: int, offsets_ms: tuple[int, ...] | None = None
    ) -> None:
        if prompt.system:
            raise Poison(Reason.PROMPT, "the model's chat template refuses the prompt: no system role", origin="prompt")
        if "<video>" in prompt.text:
            raise Poison(Reason.PROMPT, "the prompt shows 2 placeholders", origin="prompt")
        if height > 64:
            raise Poison(Reason.OVER_CONTEXT, "large", origin="prompt")
        check_context(self.tokens(num_frames, prompt), prompt.max_tokens, CONTEXT)


def settings(**more: Any) -> Settings:
    return settings_from({**PLACES, **more}, folder=Path("/nowhere"))


def of_yard(**own: Any) -> dict[str, Any]:
    return {"sources": {**PLACES["sources"], "yard": {"kind": "folder", "path": "yard", **own}}}


def test_what_fits_passes_and_large_frames_are_no_reason() -> None:
    check_prompts(settings(), SmallModel())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prompt": {"template": "chat"}}, r"^prompt\.template: there is no template 'chat', but auto, .*v1"),
        ({"prompt": {"template": "vv1"}}, r"do you mean 'v1'\?"),
        (of_yard(prompt={"template": "x"}), r"^sources\.yard\.prompt\.template: "),
        ({"prompt": {"system": "Be brief."}}, r"^prompt\.system: every clip of source inbox would be rejected"),
        ({"prompt": {"text": "What is in <video>?"}}, r"^prompt\.text: .*2 placeholders"),
        (of_yard(prompt={"text": "<video>"}), r"^sources\.yard\.prompt\.text: every clip of source yard"),
        ({"generation": {"max_tokens": CONTEXT}}, r"^generation\.max_tokens: .*131 prompt tokens \+ "),
        ({"generation": {"max_tokens": 100, "min_tokens": 50}, "frames": {"num_frames": 32}}, r"^frames\.num_frames: "),
        ({"frames": {"fps": 4}}, r"^frames\.fps: "),
        (of_yard(frames={"num_frames": 64}), r"^sources\.yard\.frames\.num_frames: "),
        ({"prompt": {"text": "word " * 500}}, r"^prompt\.text: "),
    ],
)
def test_the_key_is_named(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_prompts(settings(**more), SmallModel())


def test_a_long_clip_does_not_count_where_a_short_one_fits() -> None:
    check_prompts(settings(windows={"policy": "whole"}, frames={"fps": 4, "max_frames": 64}), SmallModel())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prompt": {"template": "nothing"}}, r"prompt\.template: "),
        ({"generation": {"max_tokens": 10**6}}, r"generation\.max_tokens: "),
    ],
)
def test_check_says_so_without_a_model(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check(settings(**more))


def test_a_server_has_no_conversations() -> None:
    engine = {"kind": "openai", "base_urls": ["http://127.0.0.1:9/v1"], "model": "m"}

    with pytest.raises(ConfigurationError, match=r"prompt\.template: .*write auto"):
        check(settings(engine=engine, prompt={"template": "v1"}))
    assert any("No server" in line for line in check(settings(engine=engine)))


def test_a_server_that_says_its_context_is_believed() -> None:
    planner = RemoteTokenPlanner()
    planner.max_model_len = 256

    with pytest.raises(ConfigurationError, match=r"^generation\.max_tokens: .*context of 256 tokens"):
        check_prompts(settings(), planner)
    check_prompts(settings(generation={"max_tokens": 255}), planner)
