"""The judgement of one answer: its status, what it says as data, and why it is not good where it is not."""

from dataclasses import dataclass
from typing import Any

from connectors.contract import CaptionStatus
from daemon.answers.quality import loops, refuses
from daemon.answers.structured import read_answer
from daemon.engines.contract import Completion
from daemon.prompts.prompt import Prompt

# of two answers that are not good the one with the earlier status is taken
_BEST_FIRST = (
    CaptionStatus.SUCCESS,
    CaptionStatus.TRUNCATED,
    CaptionStatus.INVALID,
    CaptionStatus.LOOPING,
    CaptionStatus.REFUSED,
    CaptionStatus.EMPTY,
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be said of an answer. ``text`` is the answer, ``reason`` a code and ``detail`` in words."""

    status: CaptionStatus
    text: str = ""
    data: Any = None
    reason: str = ""
    detail: str = ""

    @property
    def rank(self) -> int:
        """The place of its status, the best first."""
        return _BEST_FIRST.index(self.status)


def judge(done: Completion, prompt: Prompt) -> Judgement:
    """Return what is to be said of an answer to a question."""
    text = done.text.strip()
    if prompt.stop_loops and (done.looping or (said := loops(text, done.token_ids))):
        detail = "the engine stopped it" if done.looping else said
        return Judgement(CaptionStatus.LOOPING, text, reason="engine" if done.looping else "text", detail=detail)
    if done.refusal or (prompt.refusals and (phrase := refuses(text, prompt.refusals))):
        detail = done.refusal or f"it says {phrase!r}"
        return Judgement(CaptionStatus.REFUSED, text, reason="model" if done.refusal else "phrase", detail=detail)
    if not text:
        cut = "the answer was cut off at generation.max_tokens before its first word"
        detail = done.detail or (cut if done.truncated else "")
        return Judgement(CaptionStatus.TRUNCATED if done.truncated else CaptionStatus.EMPTY, detail=detail)
    if prompt.form is None:
        status = CaptionStatus.TRUNCATED if done.truncated else CaptionStatus.SUCCESS
        return Judgement(status, text, detail=done.detail)
    read = read_answer(text, prompt.form)
    if done.truncated:
        return Judgement(CaptionStatus.TRUNCATED, text, read.data, read.reason, read.detail)
    if read.reason:
        return Judgement(CaptionStatus.INVALID, text, None, read.reason, read.detail)
    return Judgement(CaptionStatus.SUCCESS, text, read.data, detail=done.detail)
