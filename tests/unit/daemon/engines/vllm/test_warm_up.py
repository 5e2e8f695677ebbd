"""An engine is warmed up with the windows that will come, and its batches are wide enough for them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from connectors.errors import ConfigurationError, EngineLost, Poison, Reason, Transient
from daemon.config.engine_settings import VllmSettings
from daemon.engines.contract import Completion, Engine
from daemon.engines.model.media_form import MediaForm
from daemon.engines.model.token_planner import EncoderBudget, ModelTokenPlanner
from daemon.engines.model.window_shapes import ExpectedWindows
from daemon.engines.vllm.budget import choose_budget
from daemon.engines.vllm.warm_up import warm_up
from daemon.frame_look import MaxFrameSize
from daemon.prompts.prompt import Prompt, PromptEncoder
from daemon.windows import FrameSet

PATCH = 32  # the planner below counts a token for each square of so many pixels, and ten for the text


class Encoder:
    def encode(self, prompt: Prompt, items: int) -> list[int]:
        return [0] * 10


def planner(
    *, max_model_len: int = 100_000, max_size: MaxFrameSize | None = None, budget: EncoderBudget | None = None
) -> ModelTokenPlanner:
    def process(ids: list[int], media: Any) -> tuple[int, int]:
        frames = media["video"][0][0]
        tokens = len(frames) * (frames.shape[1] // PATCH) * (frames.shape[2] // PATCH)
        return len(ids) + tokens, tokens

    return ModelTokenPlanner(
        cast(PromptEncoder, Encoder()),
        MediaForm("video"),
        process,
        max_model_len=max_model_len,
        max_frame_size=max_size,
        encoder_budget=budget,
    )


class Recording:
    """An engine that says what it was asked about, and fails as it is told."""

    def __init__(self, fault: Callable[[], Exception] | None = None) -> None:
        self.asked: list[tuple[int, ...]] = []
        self._fault = fault

    async def describe(self, frames: FrameSet, prompt: Prompt, request_id: str) -> Completion:
        self.asked.append(frames.frames.shape[:3])
        if self._fault is not None:
            raise self._fault()
        return Completion("", False, 0, 0, 1)


async def asked(planner: ModelTokenPlanner, windows: ExpectedWindows) -> list[tuple[int, ...]]:
    engine = Recording()
    await warm_up(cast(Engine, engine), planner, windows)
    return engine.asked


async def test_the_windows_are_those_that_will_come() -> None:
    assert await asked(planner(), ExpectedWindows((8,), 8)) == [(8, 1080, 1920)]
    small = planner(max_size=MaxFrameSize(640, 640))
    assert await asked(small, ExpectedWindows((8, 4), 8)) == [(8, 360, 640), (4, 360, 640)]


async def test_as_many_frames_as_may_come_are_tried_too() -> None:
    assert await asked(planner(), ExpectedWindows((20,), 64)) == [(20, 1080, 1920), (64, 64, 64)]


async def test_a_few_shapes_are_enough() -> None:
    counts = tuple(range(1, 31))

    assert await asked(planner(), ExpectedWindows(counts, 30)) == [(n, 1080, 1920) for n in (30, 29, 28, 27)]


async def test_frames_are_halved_until_the_window_fits() -> None:
    narrow = planner(max_model_len=1000)  # 8 frames of 480 x 270 are 960 tokens
    tight = planner(budget=EncoderBudget(500, lambda: 500))

    assert await asked(narrow, ExpectedWindows((8,), 8)) == [(8, 270, 480)]
    assert await asked(tight, ExpectedWindows((8,), 8)) == [(8, 135, 240)]
    assert await asked(planner(max_model_len=15), ExpectedWindows((8,), 8)) == [(8, 64, 64)]


async def test_a_warm_up_has_a_bound_of_bytes() -> None:
    (shape,) = await asked(planner(max_model_len=10**9), ExpectedWindows((512,), 512))

    assert shape == (512, 270, 480)  # at 960 x 540 they would be 796 MB


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (lambda: Poison(Reason.OVER_CONTEXT, "too long"), ConfigurationError),
        (lambda: Transient("it failed", origin="engine"), EngineLost),
        (lambda: EngineLost("the engine's process died"), EngineLost),
    ],
)
async def test_an_engine_that_does_not_answer_has_not_started(
    fault: Callable[[], Exception], raised: type[Exception]
) -> None:
    with pytest.raises(raised):
        await warm_up(cast(Engine, Recording(fault)), planner(), ExpectedWindows((8,), 8))


async def test_a_model_without_a_template_is_warmed_up_by_its_first_clip() -> None:
    engine = Recording(lambda: Poison(Reason.PROMPT, "it has no template"))

    await warm_up(cast(Engine, engine), planner(), ExpectedWindows((8, 4), 8))

    assert len(engine.asked) == 1


SCHEDULER = SimpleNamespace(max_num_batched_tokens=2048, max_num_seqs=256)


def test_a_batch_holds_the_vision_tokens_of_a_window() -> None:
    windows = ExpectedWindows((8, 16), 16)

    chosen = choose_budget(VllmSettings(), SCHEDULER, planner(), windows)

    assert chosen.batched_tokens == 16 * 33 * 60
    assert chosen.arguments == {"max_num_batched_tokens": 16 * 33 * 60}
    assert "the vision tokens of a window of 16 frames of 1920 x 1080" in " ".join(chosen.choices)


def test_a_batch_that_is_wide_enough_stays_vllms_own() -> None:
    chosen = choose_budget(VllmSettings(), SCHEDULER, planner(), ExpectedWindows((1,), 1))

    assert (chosen.batched_tokens, chosen.arguments) == (2048, {})
    assert "engine.args.max_num_batched_tokens: 2048, vLLM's own" in " ".join(chosen.choices)
    assert "engine.args.max_num_seqs: 256, vLLM's own" in " ".join(chosen.choices)


def test_no_batch_is_wider_than_the_context() -> None:
    chosen = choose_budget(VllmSettings(), SCHEDULER, planner(max_model_len=4096), ExpectedWindows((16,), 16))

    assert chosen.batched_tokens == 4096


@pytest.mark.parametrize("name", ["max_num_batched_tokens", "max-num-batched-tokens"])
def test_what_an_operator_wrote_holds(name: str) -> None:
    settings = VllmSettings(args={name: 2048, "max_num_seqs": 256})

    chosen = choose_budget(settings, SCHEDULER, planner(), ExpectedWindows((16,), 16))

    assert (chosen.batched_tokens, chosen.arguments, chosen.choices) == (2048, {}, ())


def test_a_context_by_memory_is_said() -> None:
    chosen = choose_budget(
        VllmSettings(max_model_len="auto"), SCHEDULER, planner(max_model_len=4096), ExpectedWindows((1,), 1)
    )

    assert "engine.max_model_len: auto, as much as memory holds, up to 4096 tokens" in " ".join(chosen.choices)
