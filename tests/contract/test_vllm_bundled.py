"""The model that ships, in the real vLLM: what transformers says, on two devices too, and mostly the truth."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

import neva
from daemon.engines.vllm.engine import VllmEngine
from daemon.prompts.prompt import Prompt
from daemon.windows import FramePolicy, FrameSet, WindowPolicy
from neva.shapes.scenes import caption_of, random_scene, write_clip
from tests.contract.vllm_engines import MARKS, running
from tests.corpus.sampling import clip_of
from tests.corpus.sampling import running as sampling
from tests.families.reference import transformers_answers
from tests.families.registry import BY_MODEL
from tests.families.started import Started
from tests.families.suite import FamilySuite

pytestmark = MARKS

FOLDER = Path(neva.__file__).parent / "bundled"
SEEDS = range(18_000_000, 18_000_050)  # held out, and not those that the model card scores
ASK = Prompt("Describe this video.", max_tokens=24)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def windows(tmp_path_factory: pytest.TempPathFactory) -> list[FrameSet]:
    """Draw and encode fifty clips and read them back through the sampler."""
    folder, found = tmp_path_factory.mktemp("held-out"), []
    async with sampling() as sampler:
        for seed in SEEDS:
            path = folder / f"{seed}.mp4"
            write_clip(path, random_scene(seed))
            plan = await sampler.plan(clip_of(path), WindowPolicy(whole=True), FramePolicy())
            async with aclosing(sampler.frame_sets(plan)) as sets:
                async for window in sets:
                    assert isinstance(window, FrameSet)
                    sampler.release(window)
                    found.append(window)
            plan.close()
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[VllmEngine]:
    async with running(FOLDER, args={"max-num-seqs": 16}) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def said(engine: VllmEngine, windows: list[FrameSet]) -> list[tuple[str, tuple[int, ...]]]:
    return await answers(engine, windows)


@pytest.fixture
def started(engine: VllmEngine) -> Started:
    return Started(BY_MODEL["bundled"], FOLDER, engine.planner, engine)


class TestBundledFamily(FamilySuite):
    pass


async def answers(engine: VllmEngine, windows: list[FrameSet]) -> list[tuple[str, tuple[int, ...]]]:
    """Return the text and the token ids of each window's greedy answer."""
    done = await asyncio.gather(*(engine.describe(one, ASK, f"clip/{i}/0") for i, one in enumerate(windows)))
    return [(one.text.strip(), one.token_ids) for one in done]


async def test_says_what_transformers_says_token_for_token(
    said: list[tuple[str, tuple[int, ...]]], windows: list[FrameSet]
) -> None:
    expected = await asyncio.to_thread(transformers_answers, FOLDER, windows, ASK)

    assert [ids for _, ids in said] == expected


async def test_held_out_clips_are_captioned_to_the_word(said: list[tuple[str, tuple[int, ...]]]) -> None:
    right = [text == caption_of(random_scene(seed)) for seed, (text, _) in zip(SEEDS, said, strict=True)]

    assert sum(right) >= 0.98 * len(right)


async def test_two_devices_say_what_one_says(said: list[tuple[str, tuple[int, ...]]], windows: list[FrameSet]) -> None:
    async with running(FOLDER, tensor_parallel_size=2) as engine:
        assert await answers(engine, windows[:20]) == said[:20]
