"""Tiny models that take videos, in the real vLLM: the contract, and tokens planned as they are counted."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from daemon.prompt import Prompt
from daemon.vllm_engine import VllmEngine
from tests import tiny_models
from tests.contract.engine_contract import ASK, EngineContract
from tests.contract.vllm_engines import MARKS, running
from tests.windows_of_noise import noise

pytestmark = MARKS

SHAPES = [(1, 56, 56), (2, 120, 160), (5, 160, 90), (8, 64, 112)]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["llava_onevision", "qwen2_5_vl"])
async def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmEngine]:
    async with running(tiny_models.build(request.param, tmp_path_factory.mktemp("models"))) as one:
        yield one


class TestTinyVideoModels(EngineContract):
    shape = (4, 56, 84)


@pytest.mark.parametrize("shape", SHAPES)
async def test_tokens_are_planned_as_they_are_counted(engine: VllmEngine, shape: tuple[int, int, int]) -> None:
    prompt = Prompt("Say in detail what happens here, frame by frame.", system="Be brief.", max_tokens=4)

    done = await engine.describe(noise(*shape), prompt, f"clip/0/{shape}")

    planned = engine.planner.plan(*shape, prompt)
    assert (done.prompt_tokens, done.vision_tokens) == (planned.prompt_tokens, planned.vision_tokens)


async def test_frames_go_as_one_video(engine: VllmEngine) -> None:
    assert engine.planner.encoder.placeholder.modality == "video"


async def test_names_the_size_that_frames_are_scaled_down_to(engine: VllmEngine) -> None:
    bound = engine.planner.frame_bound

    assert bound is not None
    assert 56 <= bound[0] <= 512


async def test_later_windows_of_a_clip_are_planned_too(engine: VllmEngine) -> None:
    window = noise(4, 56, 56, index=360)  # an hour into a film

    done = await engine.describe(window, ASK, "clip/360/0")

    assert done.prompt_tokens == engine.planner.prompt_tokens(4, 56, 56, ASK)
