"""The prompts of the bundled model's training: many questions in many conversations.

Since every question has the same answer for a clip, the model learns to answer from the frames. The conversations are
LLaVA's, which the chat template writes, and those of NeVA. A prompt is the text before the frames and the text after
them; the answer follows it directly.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from neva.conversations import BOS_ALIAS, VIDEO, Turn, conversation, own_tokens
from neva.shapes.scenes import all_captions

DEFAULT_QUESTION = "Describe this video."
QUESTIONS = (
    "What happens in this clip?",
    "What happens in this video?",
    "Can you describe the scene?",
    "Describe this clip in detail.",
    "Describe the video in detail.",
    "Describe the scene.",
    "What is shown in the video?",
    "What can you see?",
    "What do you see in these frames?",
    "Write a caption for this video.",
    "Caption this clip in one sentence.",
    "Summarize the video.",
    "Please tell me what is going on here.",
    "How does the object move?",
)
_WORDS = tuple(
    (  # noqa: SIM905 (a word list reads better as text)
        "the a this that video clip scene frame camera what which where when how does is are shape colour moves moving"
        " please describe tell explain list short long sentence one two in of and to from with about people person car"
        " happens here now there left right up down red green blue circle square triangle"
    ).split()
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """The text around the user's turn, and the separator between the frames and the question."""

    before: str
    after: str
    separator: str = ""


def _of_neva(name: str, bos: str = "<s>") -> Conversation:
    """Return one of NeVA's conversations as the text around its single question."""
    before, after = own_tokens(name, conversation(name, [Turn(VIDEO)]), bos).split(VIDEO)
    return Conversation(before, after)


# The chat template's own, which the daemon uses unless told otherwise.
CHAT = Conversation("USER: ", " ASSISTANT:", "\n")
SHORT = (
    CHAT,
    CHAT,
    CHAT,
    CHAT,
    Conversation("<s>USER: ", " ASSISTANT:", "\n"),
    Conversation("USER: ", " ASSISTANT:"),
    _of_neva("mistral", bos=BOS_ALIAS),
    _of_neva("mistral"),
    _of_neva("nv_dpo"),
)
LONG = (
    _of_neva("v1"),
    replace(_of_neva("v1"), separator="\n"),
    _of_neva("nvgpt"),
    _of_neva("llama_2"),
)
_LONG_SHARE = 0.2  # of the batches, since they have twice the text of short ones


def draw_prompts(rng: np.random.Generator, count: int) -> Iterator[tuple[str, str]]:
    """Yield the text before and after the frames for ``count`` samples of one batch, all short or all long."""
    conversations = LONG if rng.random() < _LONG_SHARE else SHORT
    for _ in range(count):
        conversation = conversations[rng.integers(len(conversations))]
        question = draw_question(rng)
        if rng.random() < 0.12:  # NeVA's insert_media_token: right
            yield conversation.before + question + conversation.separator, conversation.after
        else:
            yield conversation.before, conversation.separator + question + conversation.after


def draw_question(rng: np.random.Generator) -> str:
    """Return the default question, another one, or random text."""
    kind = rng.random()
    if kind < 0.45:
        return DEFAULT_QUESTION
    if kind < 0.8:
        return QUESTIONS[rng.integers(len(QUESTIONS))]
    if kind < 0.93:
        words = " ".join(_WORDS[i] for i in rng.integers(len(_WORDS), size=rng.integers(2, 9)))
        return words.capitalize() + "?."[rng.integers(2)]
    return "".join(chr(c) for c in rng.choice([*range(32, 127), *range(0xA1, 0x250)], size=rng.integers(1, 13)))


def tokenizer_texts() -> list[str]:
    """Return the texts that the tokenizer's merges are learned from; captions and questions weigh most."""
    texts = [*all_captions()] * 2
    texts += [DEFAULT_QUESTION, *QUESTIONS] * 20
    texts += [c.before + DEFAULT_QUESTION + c.after for c in (*SHORT, *LONG)] * 10
    return [*texts, " ".join(_WORDS)]
