"""Prompts that fit no window are refused before a clip is taken, with the key that they come from."""

from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError, Poison, Reason
from daemon.commands.check import check
from daemon.config.clip_settings import settings_by_source
from daemon.config.file import load, settings_from
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


@pytest.mark.parametrize("place", ["", "sources.yard."])
@pytest.mark.parametrize(
    ("content", "word"), [(None, "there is no such file"), ("{% if %}", "is no Jinja template"), ("ok", None)]
)
def test_a_template_of_a_file_lies_beside_the_configuration(
    tmp_path: Path, place: str, content: str | None, word: str | None
) -> None:
    if content is not None:
        (tmp_path / "mine.jinja").write_text(content)
    own = {"prompt": {"template": "mine.jinja"}}
    made = settings_from({**PLACES, **(of_yard(**own) if place else own)}, folder=tmp_path)

    if word is None:
        asked = {name: one.prompt for name, one in settings_by_source(made).items()}
        assert (asked["yard"].template, asked["yard"].chat_template) == ("auto", content)
        assert asked["inbox"].chat_template == (None if place else content)
        assert any("asked" in line for line in check(made))
    else:
        with pytest.raises(ConfigurationError, match=word) as refused:
            check(made)
        assert refused.value.path == f"{place}prompt.template"


def test_what_asks_is_the_text_of_a_template_and_not_its_place(tmp_path: Path) -> None:
    hashes = set()
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "mine.jinja").write_text("{{ messages }}")
        made = settings_from({**PLACES, "prompt": {"template": "./mine.jinja"}}, folder=folder)
        hashes.add(settings_by_source(made)["inbox"].prompt.hash)

    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prompt": {"template": "v1", "template_args": {"a": 1}}}, r"^prompt\.template_args: 'v1' .*no arguments"),
        (
            {**of_yard(prompt={"template": "v1"}), "prompt": {"template_args": {"a": 1}}},
            r"^prompt\.template_args: 'v1' .*no arguments",
        ),
        (of_yard(prompt={"template": "v1", "template_args": {"a": 1}}), r"^sources\.yard\.prompt\.template_args: "),
    ],
)
def test_a_conversation_takes_no_arguments(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check(settings(**more))


def test_an_argument_that_the_template_refuses_is_named() -> None:
    class Picky(SmallModel):
        def check(self, prompt: Prompt, *shape: Any) -> None:
            if prompt.template_args:
                raise Poison(Reason.PROMPT, "the chat template uses no variable 'tall'", origin="prompt")

    with pytest.raises(ConfigurationError, match=r"^prompt\.template_args: .*'tall'"):
        check_prompts(settings(prompt={"template_args": {"tall": True}}), Picky())


@pytest.mark.parametrize("name", ["messages", "tokenize", "add_generation_prompt"])
def test_what_every_template_gets_is_no_argument(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^prompt: .*{name}"):
        settings(prompt={"template_args": {name: False}})


def test_a_server_takes_arguments_but_no_file(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{{ messages }}")
    engine = {"kind": "openai", "base_urls": ["http://127.0.0.1:9/v1"], "model": "m"}
    with_file = {**PLACES, "engine": engine, "prompt": {"template": "mine.jinja"}}

    assert check(settings(engine=engine, prompt={"template_args": {"enable_thinking": False}}))
    with pytest.raises(ConfigurationError, match=r"^prompt\.template: .*a file needs engine\.kind: vllm"):
        check(settings_from(with_file, folder=tmp_path))


def test_the_words_for_booleans_are_booleans_in_arguments(tmp_path: Path) -> None:
    file = tmp_path / "captiond.yaml"
    file.write_text(
        "sources: {inbox: {kind: folder, path: inbox}}\nsink: {kind: folder, path: captions}\nengine: {kind: fake}\n"
        "prompt: {template_args: {enable_thinking: no}}\n"
    )

    assert load(file).prompt.template_args == {"enable_thinking": False}
    overridden = load(file, ["prompt.template_args.enable_thinking=true"])
    assert overridden.prompt.template_args == {"enable_thinking": True}


def test_the_settings_that_are_left_to_the_model_are_those_that_nobody_set() -> None:
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    for given, left in (
        ({}, ()),
        ({"from_model": True}, names),
        ({"from_model": True, "temperature": 0, "max_tokens": 9}, names[1:]),
    ):
        made = settings_by_source(settings(generation=given))["inbox"].prompt

        assert made.from_model == left
    assert made.max_tokens == 9


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", 2.1),
        ("min_p", 1.5),
        ("presence_penalty", -2.5),
        ("frequency_penalty", 3),
        ("stop", [""]),
        ("reasoning", "maybe"),
    ],
)
def test_what_no_sampler_takes_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^generation\.{key}"):
        settings(generation={key: value})
