"""Questions in the configuration: whose keys win, what is refused, and that nothing changes where there are none."""

from pathlib import Path
from typing import Any

import pytest

from connectors.contract import ATTRIBUTE, PROMPT_FROM, SENDER, TOPICS_PROMPT, Clip
from connectors.errors import ConfigurationError
from connectors.media.bytes import BytesMedia
from daemon.answers.grammar import check_form, keyword_refused
from daemon.config.clip_settings import ClipSettings, settings_by_source, settings_chooser
from daemon.config.file import settings_from
from daemon.config.settings import Settings
from daemon.engines.build import for_questions
from daemon.prompts.answer_form import AnswerForm
from daemon.service.reload import is_reloadable

FOLDER = {"kind": "folder", "path": "in"}
SINK = {"kind": "folder", "path": "out"}


def settings(source: dict[str, Any] | None = None, *, folder: Path = Path("/tmp"), **keys: Any) -> Settings:
    values = {"sources": {"inbox": FOLDER | (source or {})}, "sink": SINK, "engine": {"kind": "fake"}, **keys}
    return settings_from(values, folder=folder)


def of_inbox(source: dict[str, Any] | None = None, **keys: Any) -> ClipSettings:
    return settings_by_source(settings(source, **keys))["inbox"]


def test_without_any_of_it_hashes_are_what_they_always_were() -> None:
    plain = of_inbox()

    assert (plain.prompt.hash, plain.plan_hash("m")) == ("83801910e600d382", "0d69884d3d63c8d1")
    assert (plain.others, plain.prompt.retries, plain.prompt.places) == ((), 0, ())
    assert of_inbox(quality={"alarm": 0.5, "input": ["black"]}).plan_hash("m") == plain.plan_hash("m")
    assert of_inbox(context={"windows": 4}).plan_hash("m") == plain.plan_hash("m")  # nothing shows it


def test_a_questions_keys_win_over_the_sources_and_those_over_the_top_levels() -> None:
    found = of_inbox(
        {"prompt": {"system": "Of the source.", "text": "Source?"}},
        prompt={"system": "Of all.", "template_args": {"x": 1}},
        prompts={"one": {"text": "One?"}, "two": {"system": "Two's."}},
    )

    assert [(one.name, one.text, one.system, one.template_args) for one in found.questions] == [
        ("one", "One?", "Of the source.", {"x": 1}),
        ("two", "Source?", "Two's.", {"x": 1}),
    ]


def test_a_source_may_ask_its_own_and_a_kafka_source_for_its_topics_too() -> None:
    own = of_inbox({"prompts": {"own": {"text": "Own?"}}}, prompts={"one": {"text": "One?"}})
    kafka = {
        "kind": "kafka",
        "bootstrap_servers": "b:1",
        "topics": ["t"],
        "prompts": {"t": "Topic?", "own": {"text": "Own?", "choice": ["yes", "no"]}},
    }
    both = settings(sources={"clips": kafka})

    assert [one.text for one in own.questions] == ["Own?"]
    assert [one.name for one in settings_by_source(both)["clips"].questions] == ["own"]
    assert both.sources["clips"].topic_prompts == {"t": "Topic?"}  # type: ignore[union-attr]
    assert both.sink.questions.names("clips") == ("own",)


def test_forms_are_read_from_files_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "fire.json").write_text('{"type": "object"}')

    found = settings_by_source(settings(folder=tmp_path, prompts={"fire": {"schema": "fire.json"}}))["inbox"]

    assert found.prompt.form == AnswerForm.of_schema({"type": "object"})
    assert found.prompt.retries == 1
    assert of_inbox(prompt={"choice": ["yes"]}, generation={"retries": 0}).prompt.retries == 0
    assert of_inbox(quality={"loops": True}).prompt.retries == 1
    assert of_inbox(prompt={"schema": {}}, prompts={"a": {"choice": ["yes"]}}).prompt.form == AnswerForm.of_choice(
        ("yes",)
    )


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no such place": ({"prompt": {"text": "In {clipp}"}}, "prompt.text", "do you mean {clip}"),
    "in a question": ({"prompts": {"a": {"system": "{x}"}}}, "prompts.a.system", "nothing stands for"),
    "previous by itself": ({"prompt": {"text": "{previous}"}}, "prompt.text", "needs context.windows"),
    "no JSON Schema": ({"prompt": {"schema": {"type": "objekt"}}}, "prompt.schema", "no JSON Schema at type"),
    "points outside": ({"prompt": {"schema": {"$ref": "https://a/b"}}}, "prompt.schema", "points out of the schema"),
    "no such file": ({"prompts": {"a": {"schema": "x/y.json"}}}, "prompts.a.schema", "no such file"),
}


@pytest.mark.parametrize(("keys", "path", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_names_its_key(keys: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        settings_by_source(settings(**keys))

    assert refused.value.path == path
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"prompt": {"schema": {}, "choice": ["a"]}},
        {"prompt": {"regex": "("}},
        {"prompt": {"vtt_text": "/a"}},
        {"prompt": {"schema": {}, "vtt_text": "a"}},
        {"prompts": {"a b": {}}},
        {"prompts": {"a": {"txt": "x"}}},
        {"sink": {**SINK, "vtt_prompt": "a"}},
        {"context": {"windows": 17}},
        {"quality": {"alarm": 2}},
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        settings_by_source(settings(**keys))


def asked_by_a_sender(mine: ClipSettings, **more: str) -> ClipSettings:
    attributes = {"prompt": "Sender's {clip}?", PROMPT_FROM: SENDER, ATTRIBUTE + "x": "y", **more}
    return settings_chooser({"inbox": mine})(Clip("c", "inbox", BytesMedia("a", b""), 0, attributes))


def test_who_may_ask_is_the_operators_choice() -> None:
    two = {"prompts": {"one": {"text": "One, {clip}?"}, "two": {"text": "Two?", "choice": ["yes", "no"]}}}

    replaced = asked_by_a_sender(of_inbox(**two))
    appended = asked_by_a_sender(of_inbox({"prompts_from_records": "append"}, **two))
    never = asked_by_a_sender(of_inbox({"prompts_from_records": "never"}, **two), **{TOPICS_PROMPT: "Topic?"})

    assert [one.text for one in replaced.questions] == ["Sender's {clip}?", "Two?"]
    assert replaced.prompt.from_sender
    assert replaced.prompt.places == ()
    assert [one.text for one in appended.questions] == ["One, {clip}?\n\nSender's {clip}?", "Two?\n\nSender's {clip}?"]
    assert [one.words[1] for one in appended.questions] == ["Sender's {clip}?"] * 2
    assert [one.text for one in never.questions] == ["Topic?", "Two?"]
    assert len({one.plan_hash("m") for one in (replaced, appended, never)}) == 3


def test_the_engine_gets_what_the_questions_need_unless_it_is_said() -> None:
    vllm = {"kind": "vllm", "model": "bundled"}
    plain = settings(engine=vllm)
    two = settings(engine=vllm, prompts={"a": {}, "b": {"choice": ["x"]}})
    said = settings(engine=vllm | {"args": {"enable-prefix-caching": False}}, prompts={"a": {}, "b": {}})

    assert for_questions(plain, plain.engine) is plain.engine  # type: ignore[arg-type]
    assert for_questions(two, two.engine).args == {  # type: ignore[arg-type]
        "enable_prefix_caching": True,
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
    assert for_questions(said, said.engine).args == {"enable-prefix-caching": False}  # type: ignore[arg-type]


def test_the_keyword_that_a_grammar_refuses_is_named() -> None:
    def refuses(form: AnswerForm) -> str:
        return "no" if "uniqueItems" in form.written or "multipleOf" in form.written else ""

    one = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}, "uniqueItem": {}}}
    two = {"properties": {"a": {"multipleOf": 2}, "b": {"uniqueItems": True}}}

    assert keyword_refused(one, refuses) == "properties.a.uniqueItems"
    assert keyword_refused(two, refuses) == "properties.a.multipleOf and properties.b.uniqueItems"
    with pytest.raises(ConfigurationError, match=r"the keyword properties.a.uniqueItems can't be asked for") as refused:
        check_form(AnswerForm.of_schema(one), refuses, "prompts.a")
    assert refused.value.path == "prompts.a.schema"


def test_what_the_sink_was_told_needs_a_restart() -> None:
    assert is_reloadable("prompt.text")
    assert is_reloadable("quality.loops")
    assert not is_reloadable("prompt.vtt_text")
    assert not is_reloadable("prompts.a.text")
    assert not is_reloadable("sources.inbox.prompts.a")
