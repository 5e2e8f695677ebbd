"""The asking of one question about one window: once, and again with another sampling where the answer is not good."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from connectors.contract import Attempt, CaptionStatus
from connectors.errors import Poison, Transient
from daemon.answers.judgement import Judgement, judge
from daemon.engines.contract import Completion, Engine, Rendered, unheeded
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet

_WARMER = 0.7  # the temperature at which a greedy answer is asked for again: greedy, it would be the same
_PENALTY = 1.1  # on what was said, where an answer went round in circles
_MOST_CHARACTERS = 1000  # of an answer that another one stands for


@dataclass(frozen=True, slots=True)
class Asked:
    """The answer that counts, what is to be said of it, and the others that were tried, in their order."""

    done: Completion
    said: Judgement
    attempts: tuple[Attempt, ...] = ()


async def ask(
    engine: Engine, frames: FrameSet, prompt: Prompt, name: Callable[[], str], rendered: Rendered = unheeded
) -> Asked:
    """Return the first good answer to a question, else the best one; ``name`` returns another request's id each time.

    Raises as :meth:`daemon.engines.contract.Engine.describe` does; what only a later try raises leaves the one before.
    """
    done = await engine.describe(frames, prompt, name(), rendered)
    said = judge(done, prompt)
    if said.status is CaptionStatus.SUCCESS or not prompt.retries:
        return Asked(done, said)
    tried = [(prompt, done, said)]
    for number in range(1, prompt.retries + 1):
        again = asked_again(prompt, number, tried[-1][2].status)
        try:
            done = await engine.describe(frames, again, name())
        except (Poison, Transient):
            break
        tried.append((again, done, judge(done, again)))
        if tried[-1][2].status is CaptionStatus.SUCCESS:
            break
    best = min(tried, key=lambda one: one[2].rank)  # the first of several that are as good
    return Asked(best[1], best[2], tuple(_attempt(*one) for one in tried if one is not best))


def asked_again(prompt: Prompt, number: int, status: CaptionStatus) -> Prompt:
    """Return the question as it is asked the ``number``-th time again: the same each time that the window is done."""
    changed = {"temperature": max(prompt.temperature, _WARMER), "seed": (prompt.seed or 0) + number}
    if status is CaptionStatus.LOOPING:
        changed["repetition_penalty"] = max(prompt.repetition_penalty, _PENALTY)
    left = tuple(name for name in prompt.from_model if name not in changed)
    return replace(prompt, from_model=left, **changed)  # type: ignore[arg-type]


def _attempt(prompt: Prompt, done: Completion, said: Judgement) -> Attempt:
    text = said.text[:_MOST_CHARACTERS]
    return Attempt(said.status, text, said.reason, said.detail, prompt.temperature, prompt.seed, done.output_tokens)
