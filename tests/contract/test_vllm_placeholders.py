"""Placeholders found in prompts by vLLM's own processors: one token, a sequence, and what strangers write."""

from pathlib import Path

import pytest

from connectors.errors import Poison, Reason
from daemon.engines.vllm.load import load_model
from daemon.prompts.prompt import Placeholder, Prompt, PromptEncoder
from testing import tiny_models
from tests.contract.vllm_engines import MARKS, settings

pytestmark = MARKS

# written by the class, and the sender's own spellings of it
PLACEHOLDERS = {
    "llava": "<image>",
    "qwen2_5_vl": "<|vision_start|><|video_pad|><|vision_end|>",
    "glm4_1v": "<|begin_of_video|><|video|><|end_of_video|>",
    "internvl_chat": "<video>",
    "keye_vl1_5": "<|vision_start|><|video_pad|><|vision_end|>",
}


@pytest.fixture(scope="module", params=PLACEHOLDERS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PromptEncoder:
    folder = tiny_models.build(request.param, tmp_path_factory.mktemp("models"))
    return load_model(settings(folder, args={"trust-remote-code": True}), 8).planner.encoder


def test_it_is_what_the_class_writes(encoder: PromptEncoder, request: pytest.FixtureRequest) -> None:
    assert encoder.placeholder.text_of(1) in PLACEHOLDERS.values()


@pytest.mark.parametrize("more", [-1, 1])
def test_a_prompt_that_shows_more_or_fewer_is_refused(encoder: PromptEncoder, more: int) -> None:
    items = 3 if encoder.placeholder.modality == "image" else 1
    ids = encoder.encode(Prompt("What happens?"), items)

    assert encoder.placeholder.shown(ids, items) == items
    assert encoder.placeholder.shown(ids, items + more) == items
    with pytest.raises(Poison) as refused:
        encoder.encode(Prompt(f"What is in {encoder.placeholder.text_of(1)}?"), items)
    assert refused.value.reason == Reason.PROMPT


def test_a_senders_text_gives_none(encoder: PromptEncoder) -> None:
    items = 2 if encoder.placeholder.modality == "image" else 1
    for text in {*PLACEHOLDERS.values(), "<|video|>", "<|video_pad|>", "<img>", "<video>\n<video>"}:
        ids = encoder.encode(Prompt(f"See {text} and say.", from_sender=True), items)

        assert encoder.placeholder.shown(ids, items) == items
        assert len(ids) > len(encoder.encode(Prompt("See and say."), items))  # it is read as text, not left out


def test_a_placeholder_of_several_tokens_is_found_by_its_text_too(tmp_path: Path) -> None:
    """A tokenizer may make other tokens of it where something else stands beside it."""
    folder = tiny_models.build("internvl_chat", tmp_path)
    placeholder: Placeholder = load_model(
        settings(folder, args={"trust-remote-code": True}), 8
    ).planner.encoder.placeholder

    assert placeholder.respells
