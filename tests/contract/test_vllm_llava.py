"""A tiny LLaVA in the real vLLM: the contract, transformers' own answers, two devices, and a death."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from connectors.errors import EngineLost, Poison, Reason
from daemon.config.engine_settings import OpenAISettings
from daemon.engines.guard import GuardedEngine
from daemon.engines.openai.engine import RemoteEngine
from daemon.engines.vllm.engine import VllmEngine
from daemon.engines.vllm.reaper import marked_processes
from daemon.prompts.prompt import Prompt
from testing import tiny_models
from tests.contract.engine_contract import ASK, EngineContract
from tests.contract.vllm_engines import MARKS, collect_quietly, running, serving, settings
from tests.families.reference import transformers_answers
from tests.families.registry import BY_MODEL
from tests.families.started import Started
from tests.families.suite import FamilySuite
from tests.windows_of_noise import noise

pytestmark = MARKS

SHAPES = [(1, 56, 56), (4, 56, 56), (8, 120, 160), (3, 160, 90)]
LONG = Prompt("What is shown?", max_tokens=24, min_tokens=24)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("llava", tmp_path_factory.mktemp("models"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(llava: Path) -> AsyncIterator[VllmEngine]:
    async with running(llava) as one:
        yield one


async def answers(engine: VllmEngine) -> list[tuple[int, ...]]:
    """Return the token ids of a greedy answer about each shape, all at once."""
    done = await asyncio.gather(
        *(engine.describe(noise(*shape, seed=i), LONG, f"clip/{i}/{id(engine)}") for i, shape in enumerate(SHAPES))
    )
    return [one.token_ids for one in done]


@pytest.fixture
def started(engine: VllmEngine, llava: Path) -> Started:
    return Started(BY_MODEL["llava"], llava, engine.planner, engine)


class TestTinyLlava(EngineContract):
    pass


class TestLlavaFamily(FamilySuite):
    pass


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_frame_is_sixteen_tokens_and_planned(engine: VllmEngine, shape: tuple[int, int, int]) -> None:
    done = await engine.describe(noise(*shape), ASK, f"clip/0/{shape}")

    assert done.vision_tokens == 16 * shape[0]
    assert done.prompt_tokens == engine.planner.prompt_tokens(*shape, ASK)


async def test_says_what_transformers_says_token_for_token(engine: VllmEngine, llava: Path) -> None:
    windows = [noise(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    expected = await asyncio.to_thread(transformers_answers, llava, windows, LONG)

    assert await answers(engine) == expected


async def test_a_prompt_with_the_models_own_placeholder_is_refused(engine: VllmEngine) -> None:
    with pytest.raises(Poison) as refused:
        await engine.describe(noise(2, 56, 56), Prompt("What is in <image>?"), "clip/0/placeholder")

    assert refused.value.reason == Reason.PROMPT


async def test_a_stop_string_ends_the_answer(engine: VllmEngine) -> None:
    whole = await engine.describe(noise(2, 56, 56), LONG, "clip/0/whole")
    stop = next(char for char in whole.text[3:] if char.isprintable() and char != "\N{REPLACEMENT CHARACTER}")

    done = await engine.describe(noise(2, 56, 56), Prompt(LONG.text, max_tokens=24, stop=(stop,)), "clip/0/stop")

    assert stop not in done.text
    assert not done.truncated


async def test_a_special_token_ends_the_answer_though_its_text_does_not_show_it(engine: VllmEngine) -> None:
    tokenizer = engine.planner.encoder.tokenizer
    asked = replace(LONG, min_tokens=0, repetition_penalty=8.0, max_tokens=300)  # no token twice: specials come too
    whole = await engine.describe(noise(2, 56, 56), asked, "clip/0/special")
    special = next(token for token in whole.token_ids if token in tokenizer.get_added_vocab().values())
    name = tokenizer.convert_ids_to_tokens(special)

    done = await engine.describe(noise(2, 56, 56), replace(asked, stop=(name,)), "clip/0/special-stop")

    assert name not in done.text
    assert done.token_ids == whole.token_ids[: whole.token_ids.index(special) + 1]
    assert not done.truncated


async def test_a_repetition_penalty_reaches_the_sampler(engine: VllmEngine) -> None:
    plain = await engine.describe(noise(2, 56, 56), LONG, "clip/0/repeats")
    penalised = await engine.describe(noise(2, 56, 56), replace(LONG, repetition_penalty=8.0), "clip/0/penalised")

    assert len(set(plain.token_ids)) < len(plain.token_ids)
    assert len(set(penalised.token_ids)) == len(penalised.token_ids)


@pytest.mark.parametrize(
    ("changes", "repeats"),
    [({"frequency_penalty": 2.0}, False), ({"presence_penalty": 2.0}, False), ({"presence_penalty": -2.0}, True)],
)
async def test_penalties_reach_the_sampler(engine: VllmEngine, changes: dict[str, float], repeats: bool) -> None:
    plain = await engine.describe(noise(2, 56, 56), LONG, f"clip/0/plain-{changes}")
    done = await engine.describe(noise(2, 56, 56), replace(LONG, **changes), f"clip/0/{changes}")

    kinds, before = len(set(done.token_ids)), len(set(plain.token_ids))
    assert kinds <= before if repeats else kinds > before


async def test_min_p_reaches_the_sampler(engine: VllmEngine) -> None:
    greedy = await engine.describe(noise(2, 56, 56), LONG, "clip/0/greedy")
    hot = replace(LONG, temperature=2.0, seed=1)

    found = [await engine.describe(noise(2, 56, 56), replace(hot, min_p=p), f"clip/0/{p}") for p in (0.0, 1.0)]

    assert found[0].token_ids != greedy.token_ids
    assert found[1].token_ids == greedy.token_ids  # nothing but the likeliest is left


async def test_an_end_that_is_ignored_ends_nothing(engine: VllmEngine) -> None:
    asked = Prompt(LONG.text, max_tokens=300, repetition_penalty=8.0)  # no token twice: the end comes too
    ended = await engine.describe(noise(2, 56, 56), asked, "clip/0/ended")
    ignored = await engine.describe(noise(2, 56, 56), replace(asked, ignore_eos=True), "clip/0/ignored")

    assert (ended.truncated, ignored.truncated, ignored.output_tokens) == (False, True, 300)
    assert ended.output_tokens < 300


async def test_a_chat_template_of_a_file_and_its_arguments_reach_the_model(engine: VllmEngine) -> None:
    source = "{% for message in messages %}{{ message['content'] }}{% endfor %}{{ tone }}:"
    asked = replace(LONG, chat_template=source, template_args={"tone": "dry"})

    done = await engine.describe(noise(2, 56, 56), asked, "clip/0/template")

    longer = replace(asked, template_args={"tone": "very dry"})
    assert done.prompt_tokens == 2 * 16 + len("\n\n" + LONG.text + "dry:")
    assert engine.planner.prompt_tokens(2, 56, 56, asked) == done.prompt_tokens
    assert engine.planner.prompt_tokens(2, 56, 56, longer) == done.prompt_tokens + len("very ")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two_devices(llava: Path) -> AsyncIterator[VllmEngine]:
    async with running(llava, tensor_parallel_size=2) as one:
        yield one


async def test_two_devices_say_what_one_says_token_for_token(engine: VllmEngine, two_devices: VllmEngine) -> None:
    assert await answers(two_devices) == await answers(engine)


async def test_the_terminals_ctrl_c_does_not_reach_the_engine(two_devices: VllmEngine) -> None:
    for pid in marked_processes(two_devices._reaper.mark):
        os.kill(pid, signal.SIGINT)
    await asyncio.sleep(0.2)

    assert (await two_devices.describe(noise(1, 56, 56), ASK, "clip/0/sigint")).output_tokens > 0


async def test_a_killed_engine_process_is_a_lost_engine_and_leaves_nothing(
    two_devices: VllmEngine, caplog: pytest.LogCaptureFixture
) -> None:
    guard, mark = GuardedEngine(two_devices, 60.0, 60.0), two_devices._reaper.mark
    guard.watch()
    endless = Prompt("What is shown?", max_tokens=900, min_tokens=900)
    pending = [asyncio.create_task(guard.describe(noise(1, 56, 56), endless, f"clip/{i}/{i}")) for i in range(3)]
    await asyncio.sleep(0.5)
    assert len(marked_processes(mark)) >= 3  # the core and two workers

    os.kill(_core_process(mark), signal.SIGKILL)

    with pytest.raises(EngineLost):
        await asyncio.wait_for(guard.wait_dead(), 100)
    results = await asyncio.gather(*pending, return_exceptions=True)
    assert [type(result) for result in results] == [EngineLost] * 3
    with pytest.raises(EngineLost):
        await guard.describe(noise(1, 56, 56), ASK, "clip/0/late")
    await guard.close()
    assert marked_processes(mark) == []
    caplog.clear()  # what vLLM logged of its death keeps its sockets


async def test_a_stop_while_the_model_loads_leaves_nothing(llava: Path) -> None:
    engine = VllmEngine(settings(llava), max_frames=1)
    start = asyncio.create_task(engine.start())
    while not marked_processes(engine._reaper.mark):
        await asyncio.sleep(0.1)

    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    await engine.close()

    assert marked_processes(engine._reaper.mark) == []
    collect_quietly()


@pytest.mark.thorough  # test_vllm_served.py asks a server in each run
async def test_a_server_says_what_the_engine_here_says(engine: VllmEngine, llava: Path) -> None:
    async with serving(llava) as url:
        server = RemoteEngine(OpenAISettings(base_urls=(url,), model="tiny"), request_deadline_s=60.0)
        try:
            await asyncio.wait_for(server.start(), 400)
            (said,) = await server.learn_forms()
            assert "as images and not as videos: the server answers 400" in said  # it was started without the flag
            assert "--trust-request-mm-kwargs" in said
            for seed, shape in enumerate(SHAPES):
                here = await engine.describe(noise(*shape, seed=seed), LONG, f"clip/{seed}/here")
                there = await server.describe(noise(*shape, seed=seed), LONG, f"clip/{seed}/there")

                assert there.text == here.text
                assert (there.prompt_tokens, there.output_tokens) == (here.prompt_tokens, here.output_tokens)
            prompt = await server._thinking._prompt(server._servers[0].client, {"enable_thinking": False})
            assert (prompt or "").endswith("Yes?ASSISTANT:")
            asked = replace(LONG, logprobs=3)
            here = await engine.describe(noise(2, 56, 56), asked, "clip/0/here")
            there = await server.describe(noise(2, 56, 56), asked, "clip/0/there")
            found = [[[top.logprob for top in token.top] for token in one.logprobs] for one in (here, there)]
            np.testing.assert_allclose(found[0], found[1], atol=1e-4)
        finally:
            await server.close()


def _core_process(mark: str) -> int:
    """Return the engine core among an engine's processes."""
    names = {pid: Path(f"/proc/{pid}/comm").read_text() for pid in marked_processes(mark)}
    return next(pid for pid, name in names.items() if "EngineCor" in name)
