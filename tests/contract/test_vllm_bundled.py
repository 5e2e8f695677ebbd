"""The model that ships, in the real vLLM: what transformers says, on two devices too, and mostly the truth."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

import neva
from connectors.errors import Reason, Transient
from daemon.engines.vllm.engine import VllmEngine
from daemon.engines.vllm.reaper import marked_processes
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
    async with running(FOLDER, args={"max-num-seqs": 16}, renderers=1) as one:
        yield one
        mark = one._reaper.mark
    assert marked_processes(mark) == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def said(engine: VllmEngine, windows: list[FrameSet]) -> list[tuple[str, tuple[int, ...]]]:
    """What a renderer's process and the model make of the windows."""
    assert engine.rendering is not None
    assert engine.rendering.processes == 1
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


async def test_a_renderer_that_is_killed_costs_one_try_of_one_window(
    engine: VllmEngine, said: list[tuple[str, tuple[int, ...]]], windows: list[FrameSet]
) -> None:
    """The engine goes on, the windows in line wait for the next renderer, and the one that failed is tried again."""
    lost = asyncio.create_task(engine.wait_dead())
    (victim,) = [pid for pid in marked_processes(engine._reaper.mark) if is_renderer(pid)]
    os.kill(victim, signal.SIGSTOP)  # so that it has a window when it is killed
    asked = [asyncio.create_task(engine.describe(one, ASK, f"clip/{i}/1")) for i, one in enumerate(windows[:6])]
    while engine.rendering is None or engine.rendering.waiting < 5:
        await asyncio.sleep(0.01)
    os.kill(victim, signal.SIGKILL)

    ends = await asyncio.gather(*asked, return_exceptions=True)

    (failed,) = [at for at, end in enumerate(ends) if isinstance(end, BaseException)]
    fault = ends[failed]
    assert isinstance(fault, Transient)
    assert fault.reason == Reason.RENDERER_DIED
    again = await engine.describe(windows[failed], ASK, f"clip/{failed}/2")
    texts = [end.text.strip() for end in ends if not isinstance(end, BaseException)]
    texts.insert(failed, again.text.strip())
    assert texts == [text for text, _ in said[:6]]
    assert engine.rendering.replaced == 1
    assert not lost.done()
    lost.cancel()


@pytest.mark.families  # test_vllm_llava.py starts two devices in each run
async def test_two_devices_say_what_one_says(said: list[tuple[str, tuple[int, ...]]], windows: list[FrameSet]) -> None:
    async with running(FOLDER, tensor_parallel_size=2) as engine:
        assert await answers(engine, windows[:20]) == said[:20]


def is_renderer(pid: int) -> bool:
    return b"daemon.engines.rendering.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
