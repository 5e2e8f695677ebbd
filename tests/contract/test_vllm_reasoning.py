"""vLLM's own reasoning parsers over the token ids of a tokenizer, and what a model's files say of its answers.

No engine runs: a tiny model of random weights never says ``<think>``.
"""

import asyncio
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.errors import ConfigurationError, Poison, Reason
from daemon.commands.check import check
from daemon.config.engine_settings import VllmSettings
from daemon.config.file import settings_from
from daemon.config.settings import GenerationSettings
from daemon.engines.contract import Completion
from daemon.engines.vllm import library
from daemon.engines.vllm.answers import AnswerReader
from daemon.engines.vllm.load import load_model
from daemon.prompts.chat_template import ChatTemplate
from daemon.prompts.prompt import Placeholder, Prompt, PromptEncoder
from daemon.prompts.reasoning import THINK, Marks, ReasoningCutter
from testing import tiny_models
from testing.tiny_models import QWEN_TEMPLATE, byte_tokenizer
from tests.contract.vllm_engines import MARKS, settings
from tests.thinking_templates import ALWAYS, QWEN3, QWEN35

pytestmark = MARKS

QWEN = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"]
CHANNEL = ["<|channel>", "<channel|>"]
ADAPTED = ("Qwen3", "Glm47Moe", "NemotronV3", "MiniCPMV")
ASK = Prompt("What?", reasoning="strip")


def tokenizer(marks: list[str], *, special: bool) -> Any:
    made = byte_tokenizer([*QWEN, *(marks if special else [])], QWEN_TEMPLATE)
    made.add_tokens(marks)
    return made


def reader(template: str, marks: list[str], *, special: bool = False, named: str = "", **sampling: Any) -> AnswerReader:
    """Return the reader for a tokenizer with these marks and a model that says of itself how it samples."""
    made = tokenizer(marks, special=special)
    at = Placeholder.of_token("video", "<|video_pad|>", made.convert_tokens_to_ids("<|video_pad|>"))
    config = SimpleNamespace(
        model_config=SimpleNamespace(get_diff_sampling_param=lambda: sampling),
        structured_outputs_config=SimpleNamespace(reasoning_parser=named, reasoning_parser_plugin=""),
    )
    return AnswerReader(config, PromptEncoder(made, at, ChatTemplate(template, parts=True)), made)


def completion(of: AnswerReader, text: str, *, truncated: bool = False) -> Completion:
    """Return an answer as vLLM gives it: the ids of the text, and the text with special tokens or without."""
    ids = of._tokenizer.encode(text, add_special_tokens=False)
    shown = of._tokenizer.decode(ids, skip_special_tokens=of.sampling(ASK).get("skip_special_tokens", True))
    return Completion(shown, truncated, 10, 4, len(ids), token_ids=tuple(ids))


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("template", [QWEN3, QWEN35, ALWAYS, QWEN_TEMPLATE])
@pytest.mark.parametrize("wanted", ["off", "strip"])
async def test_a_model_that_thinks_has_its_reasoning_cut_out_and_counted(
    template: str, wanted: Any, *, special: bool
) -> None:
    of = reader(template, ["<think>", "</think>"], special=special)
    prompt = replace(ASK, reasoning=wanted)
    begins = "" if of._encoder.leaves_open(prompt, THINK) else "<think>"

    done = of.read(completion(of, f"{begins}It is red.</think>\n\nA red ball.<|im_end|>"), prompt)

    marks = len(of._tokenizer.encode(f"{begins}</think>", add_special_tokens=False))
    assert done.text.strip() == "A red ball."
    assert (done.reasoning_tokens, done.detail) == (len("It is red.") + marks, "")
    assert done.output_tokens == done.reasoning_tokens + len("\n\nA red ball.") + 1


@pytest.mark.parametrize("template", [QWEN3, QWEN35, ALWAYS, QWEN_TEMPLATE])
@pytest.mark.parametrize("wanted", ["off", "strip", "keep"])
async def test_an_answer_that_ends_inside_its_reasoning_is_never_text(template: str, wanted: Any) -> None:
    of = reader(template, ["<think>", "</think>"])
    prompt = replace(ASK, reasoning=wanted)
    begins = "" if of._encoder.leaves_open(prompt, THINK) else "<think>"

    done = of.read(completion(of, f"{begins}It is", truncated=True), prompt)

    assert (done.text, done.truncated, done.reasoning_tokens) == ("", True, done.output_tokens)
    assert "cut off at generation.max_tokens before the answer: raise it" in done.detail


@pytest.mark.parametrize("template", [QWEN3, QWEN_TEMPLATE])
@pytest.mark.parametrize("wanted", ["off", "strip", "keep"])
async def test_a_model_that_knows_the_marks_and_does_not_think_keeps_its_captions(template: str, wanted: Any) -> None:
    of = reader(template, ["<think>", "</think>"])
    plain = completion(of, "A red ball", truncated=True)

    assert of.read(plain, replace(ASK, reasoning=wanted)) == plain


async def test_kept_reasoning_stays_in_front_of_the_answer_and_is_counted() -> None:
    of = reader(QWEN3, ["<think>", "</think>"])

    done = of.read(completion(of, "<think>It is.</think>A ball."), replace(ASK, reasoning="keep"))

    assert (done.text, done.reasoning_tokens) == ("<think>It is.</think>A ball.", len("It is.") + 2)


@pytest.mark.parametrize(
    ("template", "marks", "found"),
    [
        (QWEN3, ["<think>", "</think>"], THINK),
        (QWEN_TEMPLATE, ["<seed:think>", "</seed:think>"], Marks("<seed:think>", "</seed:think>")),
        (QWEN_TEMPLATE, CHANNEL, Marks(*CHANNEL)),
        (QWEN3, ["<think>", "</think>", *CHANNEL], THINK),  # the template's before the vocabulary's
        (QWEN_TEMPLATE, [], THINK),  # asked for in words, as by a system message
    ],
)
async def test_the_parser_is_found_by_the_models_own_marks(template: str, marks: list[str], found: Marks) -> None:
    assert reader(template, marks).cutter.marks == found


async def test_marks_that_are_no_tokens_are_cut_and_counted_too() -> None:
    of = reader(QWEN_TEMPLATE, [])

    done = of.read(completion(of, "<think>It is.</think>A ball."), ASK)

    assert (done.text, done.reasoning_tokens) == ("A ball.", len("<think>It is.</think>"))


async def test_a_familys_own_parser_reads_its_own_form() -> None:
    of = reader(QWEN_TEMPLATE, CHANNEL, special=True)

    done = of.read(completion(of, "<|channel>thought\nIt is red.<channel|>A red ball.<|im_end|>"), ASK)

    assert done.text == "A red ball."
    assert of.sampling(ASK)["skip_special_tokens"] is False


async def test_a_parser_that_is_named_wins_and_one_that_there_is_none_of_is_refused() -> None:
    named = reader(QWEN_TEMPLATE, ["<think>", "</think>", *CHANNEL], named="gemma4")

    assert named.cutter.marks == Marks(*CHANNEL)
    with pytest.raises(ConfigurationError, match="'thinker' does not fit the model") as refused:
        reader(QWEN_TEMPLATE, [], named="thinker")
    assert refused.value.path == "engine.args.reasoning_parser"


async def test_a_parser_that_fails_fails_its_clip_and_not_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    of = reader(QWEN3, ["<think>", "</think>"])
    broken = SimpleNamespace(reasoning_start_str="<think>", reasoning_end_str="</think>")
    monkeypatch.setattr(library, "reasoning_parsers", lambda *_: [broken])

    with pytest.raises(Poison, match="the reasoning parser fails on the answer") as refused:
        of.read(completion(of, "<think>It is.</think>A ball."), ASK)
    assert refused.value.reason == Reason.ENGINE_REFUSED
    assert of.read(completion(of, "A ball."), ASK).text == "A ball."


async def test_every_parser_for_the_common_marks_cuts_the_same() -> None:
    """Whichever of them is found for a model, its captions are the same."""
    of = reader(QWEN3, ["<think>", "</think>"])
    answers = {}
    for parser in library.reasoning_parsers(of._tokenizer, None):
        if (parser.reasoning_start_str, parser.reasoning_end_str) == ("<think>", "</think>"):
            cutter = ReasoningCutter(THINK, partial(library.extract_reasoning, parser))
            cut = cutter.cut("<think>It is.</think>A ball.", "strip", is_open=False, is_cut=False)
            answers[type(parser).__name__] = (cut.text, cutter.cut("It is", "off", is_open=True, is_cut=True).text)

    assert {"DeepSeekR1ReasoningParser", *(f"{one}ParserReasoningAdapter" for one in ADAPTED)} <= answers.keys()
    assert answers == dict.fromkeys(answers, ("A ball.", ""))


async def test_the_log_probabilities_are_those_of_the_answer() -> None:
    of = reader(QWEN3, ["<think>", "</think>"])
    plain = completion(of, "<think>It is.</think>A ball.")
    scored = replace(plain, logprobs=tuple(plain.token_ids))  # type: ignore[arg-type]

    assert len(of.read(scored, ASK).logprobs) == len("A ball.")
    assert len(of.read(scored, replace(ASK, reasoning="keep")).logprobs) == plain.output_tokens


def sampled(generation: dict[str, Any]) -> Prompt:
    wanted = GenerationSettings(**generation)
    return Prompt("What?", from_model=wanted.left_to_model, **wanted.model_dump(exclude={"from_model"}))


@pytest.mark.parametrize(
    ("generation", "temperature", "top_p", "top_k"),
    [
        ({}, 0.0, 1.0, 0),
        ({"from_model": True}, 0.7, 0.8, 20),
        ({"from_model": True, "temperature": 0.0}, 0.0, 0.8, 20),
        ({"from_model": True, "top_p": 1.0, "top_k": 0}, 0.7, 1.0, 0),
    ],
)
async def test_the_model_says_how_to_sample_under_what_is_set(
    generation: dict[str, Any], temperature: float, top_p: float, top_k: int
) -> None:
    of = reader(QWEN3, [], temperature=0.7, top_p=0.8, top_k=20, max_tokens=9000)

    asked = of.sampling(sampled(generation))

    assert (asked["temperature"], asked["top_p"], asked["top_k"]) == (temperature, top_p, top_k)
    assert asked["max_tokens"] == 256


async def test_a_model_that_says_nothing_is_sampled_as_by_vllms_server() -> None:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    server = ChatCompletionRequest(messages=[], model="").to_sampling_params(256, {})
    ours = library.sampling_params(reader(QWEN3, []).sampling(sampled({"from_model": True})))

    for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "ignore_eos"):
        assert getattr(ours, name) == getattr(server, name), name


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2.5-VL whose template thinks and whose files say how to sample."""
    folder = tiny_models.build("qwen2_5_vl", tmp_path_factory.mktemp("models"))
    for name in ("chat_template.jinja", "tokenizer_config.json", "processor_config.json", "chat_template.json"):
        if not (path := folder / name).is_file():
            continue
        if name.endswith(".jinja"):
            path.write_text(QWEN3)
        elif "chat_template" in (said := json.loads(path.read_text())):
            path.write_text(json.dumps(said | {"chat_template": QWEN3}))
    said = json.loads((folder / "generation_config.json").read_text())
    sampling = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "max_new_tokens": 9000}
    (folder / "generation_config.json").write_text(json.dumps(said | sampling))
    return folder


def loaded(folder: Path, **args: Any) -> Any:
    made: VllmSettings = settings(folder, args=args)
    return load_model(made, 8)


async def test_a_models_files_are_read_as_vllm_reads_them(thinker: Path) -> None:
    model = await asyncio.to_thread(loaded, thinker)
    asked = model.answers.sampling(sampled({"from_model": True}))
    encoder: PromptEncoder = model.planner.encoder

    assert (asked["temperature"], asked["top_k"], asked["top_p"], asked["max_tokens"]) == (0.6, 20, 0.95, 256)
    assert encoder.render(Prompt("What?"), 1).endswith("<think>\n\n</think>\n\n")
    assert encoder.render(ASK, 1).endswith("assistant\n")
    assert model.planner.prompt_tokens(4, 56, 56, Prompt("What?")) > model.planner.prompt_tokens(4, 56, 56, ASK)


async def test_a_template_of_a_file_is_looked_at_as_vllm_does(thinker: Path) -> None:
    encoder: PromptEncoder = (await asyncio.to_thread(loaded, thinker)).planner.encoder
    flat = "{% for message in messages %}{{ message['content'] }}{% endfor %} A:"

    assert encoder.chat_template(Prompt("What?", chat_template=flat)) == ChatTemplate(flat, parts=False)
    assert encoder.chat_template(Prompt("What?", chat_template=QWEN35)) == ChatTemplate(QWEN35, parts=True)
    assert encoder.encode(Prompt("What?", chat_template=QWEN35, reasoning="keep"), 1)


@pytest.mark.parametrize(("template", "is_said"), [(QWEN35, False), (ALWAYS, True)])
async def test_check_says_that_a_template_has_no_switch(
    thinker: Path, tmp_path: Path, template: str, is_said: bool
) -> None:
    (tmp_path / "mine.jinja").write_text(template)
    values = {
        "sources": {"inbox": {"kind": "folder", "path": "inbox"}},
        "sink": {"kind": "folder", "path": "captions"},
        "prompt": {"template": "mine.jinja"},
        "engine": settings(thinker).model_dump(),
    }

    lines = await asyncio.to_thread(check, settings_from(values, folder=tmp_path))

    assert any("has it think and no switch" in line for line in lines) == is_said


async def test_a_parser_that_there_is_none_of_is_refused_before_the_weights_are_loaded(thinker: Path) -> None:
    for key in ("reasoning_parser", "reasoning-parser"):
        with pytest.raises(ConfigurationError, match="thinker"):
            await asyncio.to_thread(loaded, thinker, **{key: "thinker"})
    named = await asyncio.to_thread(loaded, thinker, structured_outputs_config={"reasoning_parser": "seed_oss"})
    assert named.answers.cutter.marks == Marks("<seed:think>", "</seed:think>")
