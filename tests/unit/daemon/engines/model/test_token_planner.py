"""The planner: tokens from shapes, with a processor of our own in the model's place."""

from contextlib import nullcontext
from typing import Any

import pytest

from connectors.errors import Poison, Reason
from daemon.engines.model.media_form import MediaForm
from daemon.engines.model.token_planner import EncoderBudget, ModelTokenPlanner, RemoteTokenPlanner, check_context
from daemon.prompts.prompt import Prompt
from tests.unit.daemon.prompts.test_prompt import encoder


class PatchProcessor:
    """Widens each image to a token for every 16 x 16 pixels."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, ids: list[int], media: Any) -> tuple[int, int]:
        self.calls += 1
        vision = sum((image.width // 16) * (image.height // 16) for image in media["image"])
        if vision == 0:
            raise ValueError("height and width must be at least 16")
        return len(ids) - len(media["image"]) + vision, vision


def planner(processor: PatchProcessor, max_model_len: int = 100) -> ModelTokenPlanner:
    return ModelTokenPlanner(encoder(), MediaForm("image"), processor, max_model_len=max_model_len, max_frame_size=None)


def test_tokens_are_the_texts_and_the_frames() -> None:
    planned = planner(PatchProcessor()).plan(2, 32, 48, Prompt("What?"))

    assert planned.vision_tokens == 2 * 6
    assert planned.prompt_tokens == 12 + len("user: What?\n")


def test_a_shape_is_planned_once_for_a_prompt() -> None:
    processor = PatchProcessor()
    one = planner(processor)

    for _ in range(3):
        one.prompt_tokens(2, 32, 32, Prompt("What?"))
        one.prompt_tokens(2, 32, 32, Prompt("What?", max_tokens=3))
    one.prompt_tokens(2, 32, 32, Prompt("Who?"))

    assert processor.calls == 2


class ClockProcessor:
    """Writes the milliseconds of each frame into the prompt, a token a digit, where it is told to."""

    def __init__(self, *, writes: bool) -> None:
        self.writes, self.calls = writes, 0

    def __call__(self, ids: list[int], media: Any) -> tuple[int, int]:
        self.calls += 1
        ((_, metadata),) = media["video"]
        digits = "".join(map(str, metadata["frames_indices"])) if self.writes else ""
        return len(ids) + len(digits), 1


@pytest.mark.parametrize(("writes", "more"), [(True, 6), (False, 0)])
def test_times_count_where_a_model_writes_them(writes: bool, more: int) -> None:
    processor = ClockProcessor(writes=writes)
    one = ModelTokenPlanner(encoder("video"), MediaForm("video"), processor, max_model_len=100, max_frame_size=None)

    near, far = (one.prompt_tokens(2, 32, 32, Prompt("What?"), (at, at + 1)) for at in (1, 1000))
    again = [one.prompt_tokens(2, 32, 32, Prompt("What?"), (at, at + 1)) for at in (1, 1000)]

    assert near is not None
    assert far == near + more
    assert again == [near, far]
    assert processor.calls == (4 if writes else 3)  # two to find out, and each plan once
    with pytest.raises(Poison) if writes else nullcontext():
        one.check(Prompt("What?", max_tokens=100 - near), 2, 32, 32, (1000, 1001))


def test_the_last_token_that_fits_fits() -> None:
    one = planner(PatchProcessor())  # 12 of the text, 8 of the frames

    one.check(Prompt("What?", max_tokens=80), 2, 32, 32)
    with pytest.raises(Poison, match=r"20 prompt tokens \+ generation\.max_tokens 81 = 101 .*the model's 100") as over:
        one.check(Prompt("What?", max_tokens=81), 2, 32, 32)

    assert over.value.reason == Reason.OVER_CONTEXT


def test_frames_that_the_processor_refuses_are_refused() -> None:
    with pytest.raises(Poison, match="refuses 2 frames of 8 x 8: height and width") as refused:
        planner(PatchProcessor()).check(Prompt("What?"), 2, 8, 8)

    assert refused.value.reason == Reason.ENGINE_REFUSED


def test_nothing_is_known_of_a_remote_model() -> None:
    one = RemoteTokenPlanner()

    assert one.prompt_tokens(8, 720, 1280, Prompt("What?")) is None
    one.check(Prompt("What?", max_tokens=10**9), 8, 720, 1280)


def test_prompt_and_answer_may_fill_the_context() -> None:
    check_context(90, 10, 100)


def test_frames_above_the_encoders_budget_are_refused_and_the_budget_is_asked_for_once() -> None:
    asked = list[int]()
    budget = EncoderBudget(100, lambda: asked.append(1) or 150)  # type: ignore[func-returns-value]

    budget.check(100)
    assert asked == []
    budget.check(150)
    for tokens in (151, 10_000):
        with pytest.raises(
            Poison, match=rf"{tokens} tokens, and the engine takes 150 .*max_num_batched_tokens"
        ) as over:
            budget.check(tokens)
        assert over.value.reason == Reason.OVER_CONTEXT

    assert asked == [1]
