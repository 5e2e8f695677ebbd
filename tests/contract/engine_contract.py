"""The contract of every engine. A test module inherits from the class, with an ``engine`` fixture of module scope."""

import asyncio
import math
from dataclasses import replace

import pytest

from connectors.errors import Poison, Reason
from daemon.engines.contract import Engine
from daemon.prompts.prompt import Prompt
from tests.windows_of_noise import noise

ASK = Prompt("What is shown?", max_tokens=8)


class EngineContract:
    """The tests. ``shape`` is (frames, height, width) of the windows that are asked about."""

    shape = (4, 56, 56)

    async def test_describes_a_window(self, engine: Engine) -> None:
        done = await engine.describe(noise(*self.shape), ASK, "clip/0/1")

        assert 0 < done.output_tokens <= ASK.max_tokens
        assert 0 < done.vision_tokens < done.prompt_tokens
        assert done.engine_ms >= 0
        assert done.queue_ms >= 0

    async def test_counts_the_tokens_that_were_planned(self, engine: Engine) -> None:
        done = await engine.describe(noise(*self.shape), ASK, "clip/0/2")

        assert done.prompt_tokens == engine.planner.prompt_tokens(*self.shape, ASK)

    async def test_says_the_same_of_the_same_window(self, engine: Engine) -> None:
        first = await engine.describe(noise(*self.shape), ASK, "clip/0/3")
        again = await engine.describe(noise(*self.shape), ASK, "clip/0/4")

        assert first.text == again.text

    async def test_what_it_says_depends_on_the_frames(self, engine: Engine) -> None:
        prompt = Prompt("What is shown?", max_tokens=16)

        done = [await engine.describe(noise(*self.shape, seed=i), prompt, f"clip/0/5{i}") for i in range(8)]

        assert len({one.text for one in done}) > 1

    async def test_says_when_it_was_cut_off(self, engine: Engine) -> None:
        done = await engine.describe(noise(*self.shape), Prompt("What is shown?", max_tokens=1), "clip/0/7")

        assert done.truncated
        assert done.output_tokens == 1

    async def test_log_probabilities_come_where_they_are_asked_for(self, engine: Engine) -> None:
        plain = await engine.describe(noise(*self.shape), ASK, "clip/0/12")
        own = await engine.describe(noise(*self.shape), replace(ASK, logprobs=0), "clip/0/13")
        five = await engine.describe(noise(*self.shape), replace(ASK, logprobs=5), "clip/0/14")

        assert plain.text == own.text == five.text
        assert plain.logprobs == ()
        assert len(own.logprobs) == own.output_tokens
        assert {token.top for token in own.logprobs} == {()}
        assert len(five.logprobs) == five.output_tokens
        for token in five.logprobs:
            ranked = [one.logprob for one in token.top]
            assert len(ranked) == 5
            assert ranked == sorted(ranked, reverse=True)
            assert sum(map(math.exp, ranked)) <= 1.0 + 1e-5
            assert (token.token, token.logprob) == (token.top[0].token, token.top[0].logprob)  # greedy: the likeliest

    async def test_answers_more_requests_than_it_has_slots(self, engine: Engine) -> None:
        count = engine.slots + 3
        windows = [noise(*self.shape, index=index) for index in range(count)]

        done = await asyncio.gather(
            *(engine.describe(window, ASK, f"clip/{i}/8{i}") for i, window in enumerate(windows))
        )

        assert len(done) == count

    async def test_a_cancelled_request_leaves_the_others_alone(self, engine: Engine) -> None:
        long = Prompt("What is shown?", max_tokens=200, min_tokens=200)
        others = [asyncio.create_task(engine.describe(noise(*self.shape), ASK, f"clip/{i}/9{i}")) for i in range(3)]
        gone = asyncio.create_task(engine.describe(noise(*self.shape), long, "clip/4/94"))
        await asyncio.sleep(0)
        gone.cancel()

        assert len(await asyncio.gather(*others)) == 3
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert (await engine.describe(noise(*self.shape), ASK, "clip/5/95")).output_tokens > 0

    async def test_refuses_what_does_not_fit_its_context(self, engine: Engine) -> None:
        assert engine.planner.max_model_len is not None
        prompt = Prompt("What is shown?", max_tokens=engine.planner.max_model_len)

        with pytest.raises(Poison) as planned:
            engine.planner.check(prompt, *self.shape)
        with pytest.raises(Poison) as asked:
            await engine.describe(noise(*self.shape), prompt, "clip/0/10")

        assert planned.value.reason == asked.value.reason == Reason.OVER_CONTEXT
        assert "generation.max_tokens" in asked.value.detail

    async def test_says_once_that_the_frames_are_rendered_and_looks_at_them_no_more(self, engine: Engine) -> None:
        window, said = noise(*self.shape, seed=3), list[int]()
        pixels = window.frames.copy()
        lent = replace(window, frames=pixels[:])

        async def rendered(size_bytes: int) -> None:
            said.append(size_bytes)
            pixels.fill(255)
            lent.let_go()

        kept = await engine.describe(window, ASK, "clip/0/15")
        done = await engine.describe(lent, ASK, "clip/0/16", rendered)

        assert len(said) == 1
        assert said[0] >= 0
        assert (done.text, done.vision_tokens) == (kept.text, kept.vision_tokens)

    async def test_progress_rises_with_every_answer(self, engine: Engine) -> None:
        before = engine.progress

        await engine.describe(noise(*self.shape), ASK, "clip/0/11")

        assert engine.progress > before

    async def test_does_not_count_as_dead_while_it_lives(self, engine: Engine) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.wait_dead(), 0.05)
