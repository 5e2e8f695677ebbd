"""Token ids and targets of conversations, and the order of samples."""

from collections import Counter
from typing import Any

import pytest

from connectors.errors import Poison
from neva.conversations import NOT_FOR_INFERENCE, TEMPLATES, Turn, render
from neva.training.dataset.records import TrainingRecord
from neva.training.samples import IGNORED, ConversationEncoder, SampleOrder
from testing.tiny_models import IMAGE_TEMPLATE, byte_tokenizer

MARKS = [f"<extra_id_{n}>" for n in range(8)]
ASKED = [name for name in TEMPLATES if name not in NOT_FOR_INFERENCE]
TWO = TrainingRecord((Turn("<video>What?", "A dog."), Turn("Where?", "At home.")), "a.mp4")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer([*MARKS, "<image>"], IMAGE_TEMPLATE)


def encoder(tokenizer: Any, template: str, *, longest: int = 4096, **more: Any) -> ConversationEncoder:
    return ConversationEncoder(tokenizer, template, "<image>", 6, longest, **more)


def learned(tokenizer: Any, targets: list[int]) -> str:
    return str(tokenizer.decode([token for token in targets if token != IGNORED]))


@pytest.mark.parametrize("template", ASKED)
def test_an_answer_is_learned_right_behind_the_prompt_that_a_model_is_sent(tokenizer: Any, template: str) -> None:
    turn = Turn("<video>What?", "A dog.")

    ids, targets = encoder(tokenizer, template).encode(TrainingRecord((turn,), "a.mp4"))

    first = next(at for at, target in enumerate(targets) if target != IGNORED)
    prompt = render(template, "<video>What?").replace("<video>", "<image>" * 6)
    assert ids[:first] == tokenizer.encode(prompt, add_special_tokens=False)
    assert ids[first:] == targets[first:]
    assert learned(tokenizer, targets).strip().startswith("A dog.")


@pytest.mark.parametrize(
    ("template", "answers"),
    [
        ("v1", " A dog.</s> At home.</s>"),
        ("mistral", "A dog.</s>At home.</s>"),
        ("llama_2", " A dog. </s> At home. </s>"),
        ("llama_3", "A dog.<|eot_id|>At home.<|eot_id|>"),
        ("yi_34b", "A dog.<|im_end|>\nAt home.<|im_end|>"),
        ("nvgpt", "A dog.\n<extra_id_1>At home.\n<extra_id_1>"),
        ("nv_dpo", "A dog.\n<extra_id_1>At home.\n<extra_id_1>"),
        ("plain", "A dog.\nAt home.\n"),
        ("interleaved", "What?A dog.Where?At home."),
    ],
)
def test_answers_and_their_ends_are_learned_and_nothing_else(tokenizer: Any, template: str, answers: str) -> None:
    record = TWO
    if template == "plain":  # its questions are bare media tokens, so its conversations have one turn
        record, answers = TrainingRecord((Turn("<video>What?", "A dog."),), "a.mp4"), "A dog.\n"

    ids, targets = encoder(tokenizer, template).encode(record)

    assert learned(tokenizer, targets) == answers
    assert all(target in (IGNORED, token) for token, target in zip(ids, targets, strict=True))


def test_plain_shows_the_media_and_learns_the_caption(tokenizer: Any) -> None:
    ids, _ = encoder(tokenizer, "plain").encode(TrainingRecord((Turn("<video>\nDescribe it.", "A dog."),), "a.mp4"))

    assert tokenizer.decode(ids) == "<image>" * 6 + "A dog.\n"


def test_the_marks_around_a_span_are_the_prompts_own(tokenizer: Any) -> None:
    ids, _ = encoder(tokenizer, "v1", use_im_start_end=True).encode(TWO)

    assert "<extra_id_4>" + "<image>" * 6 + "<extra_id_5>What?" in tokenizer.decode(ids)


def test_an_answer_is_cut_by_the_context_and_a_span_is_not(tokenizer: Any) -> None:
    whole, _ = encoder(tokenizer, "mistral").encode(TWO)

    ids, targets = encoder(tokenizer, "mistral", longest=len(whole) - 5).encode(TWO)  # the last id is a target alone

    assert ids == whole[:-4]
    assert learned(tokenizer, targets) == "A dog.</s>At ho"
    with pytest.raises(Poison, match="6 tokens of frames pass the context of 12"):
        encoder(tokenizer, "mistral", longest=12).encode(TWO)


def batches(first: int, last: int, *, shuffled: bool = True, seed: int = 3) -> list[list[int]]:
    return list(SampleOrder(10, 4, seed, first, last, shuffled=shuffled))


def test_every_sample_comes_once_before_any_comes_again() -> None:
    seen = [number for batch in batches(0, 10) for number in batch]

    assert [Counter(seen[at : at + 10]) for at in (0, 10, 20, 30)] == [Counter(range(10))] * 4
    assert seen[:10] != seen[10:20] != list(range(10))


def test_the_order_goes_on_where_it_was_cut() -> None:
    assert batches(0, 4) + batches(4, 10) == batches(0, 10)
    assert batches(0, 10) != batches(0, 10, seed=4)


def test_the_files_own_order() -> None:
    assert batches(0, 3, shuffled=False) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
