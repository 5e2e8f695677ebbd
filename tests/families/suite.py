"""What every family keeps. A test module inherits from the class, with a ``started`` fixture of module scope."""

import asyncio
import contextlib
import re
from typing import Any

import pytest

from connectors.errors import Poison
from daemon.config.engine_settings import VllmSettings
from daemon.engines.model.file_planner import file_planner
from daemon.engines.model.media_form import offsets_ms
from daemon.engines.vllm.engine import VllmEngine
from daemon.engines.vllm.load import load_model
from daemon.frame_look import FrameSize, PixelBudget
from daemon.prompts.control_tokens import ControlTokens
from daemon.prompts.places import filled, with_words_behind
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet
from tests.contract.engine_contract import ASK, EngineContract
from tests.families.started import Started
from tests.families.table import architecture_of
from tests.families.windows import ASKED, SHAPES, Shape
from tests.windows_of_noise import noise

PROMPT = Prompt("Say in detail what happens here, frame by frame.", system="Be brief.", max_tokens=4)
LONG = Prompt("What is shown?", max_tokens=16, min_tokens=16)
KNOWN_BY_FILES = ("bundled", "llava")  # the families whose windows are counted without vLLM


class FamilySuite:
    """The tests; the columns of the table are named after them."""

    @pytest.fixture(autouse=True)
    def of_a_family(self, started: Started, record_property: Any) -> None:
        record_property("family", started.family.name)
        record_property("architecture", architecture_of(started.folder))

    async def test_loads(self, started: Started) -> None:
        family = started.family
        if family.load_refuses:
            assert re.search(family.load_refuses, started.error), started.error
            pytest.skip(started.error)

        assert started.planner is not None, started.error
        assert started.planner.form.modality == family.modality
        assert started.planner.encoder.placeholder.modality == family.modality

    async def test_runs(self, started: Started) -> None:
        family = _loaded(started).family
        if family.cpu_refuses:
            assert started.engine is None, f"vLLM's build for the CPU runs {family.name} now"
            assert re.search(family.cpu_refuses, started.error), started.error
            pytest.skip(started.error)

        assert started.engine is not None, started.error

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    async def test_plans(self, started: Started, shape: Shape) -> None:
        planner, window = _loaded(started).planner, shape.window()
        assert planner is not None
        planned = planner.plan(shape.num_frames, shape.height, shape.width, PROMPT, offsets_ms(window))
        if started.engine is not None and shape.num_frames <= started.family.max_frames:
            done = await started.engine.describe(window, PROMPT, f"clip/0/{shape}")
            counted = done.prompt_tokens, done.vision_tokens
        else:  # no engine is to be had here, or not in a bearable time: its own processor counts the real frames
            ids = planner.encoder.encode(PROMPT, planner.form.items(shape.num_frames))
            counted = await asyncio.to_thread(planner._process, ids, planner.form.window_media(window))

        assert (planned.prompt_tokens, planned.vision_tokens) == counted

    async def test_files_alone_say_what_vllm_counts(self, started: Started) -> None:
        """What `captiond plan` knows without vLLM, where it does; of all other families it says nothing."""
        _loaded(started)
        own = VllmSettings(model=str(started.folder))
        alone = await asyncio.to_thread(file_planner, own)
        if alone is None:
            assert started.family.model not in KNOWN_BY_FILES
            return
        asked = await asyncio.to_thread(load_model, own, started.family.max_frames)
        prompts = (PROMPT, Prompt("What?"), Prompt(f"Two of {alone.encoder.placeholder.text_of(1)}?", from_sender=True))

        for planner in (alone, asked.planner):
            assert planner.max_model_len is not None
            assert planner.encoder_budget is not None
        assert alone.max_model_len <= asked.planner.max_model_len
        assert alone.encoder_budget.at_least <= asked.planner.encoder_budget.at_least
        for shape in SHAPES:
            count, size = shape.num_frames, FrameSize(shape.width, shape.height)
            for prompt in prompts:
                one, other = (each.plan(count, shape.height, shape.width, prompt) for each in (alone, asked.planner))
                assert one == other
            for planner in (alone, asked.planner):
                assert not planner.writes_times(count, shape.height, shape.width, PROMPT)
            assert alone.vision_tokens(count, size) == asked.planner.vision_tokens(count, size)
            for budget in (PixelBudget(), PixelBudget(max_pixels=2000), PixelBudget(max_vision_tokens=1000)):
                assert alone.frame_size(count, size, budget) == asked.planner.frame_size(count, size, budget)

    async def test_says(self, started: Started) -> None:
        family = _loaded(started).family
        if family.reference is None:
            pytest.skip(family.no_reference)
        if started.engine is None:
            pytest.skip("there is no engine to ask")
        windows = _windows(started)
        expected = await asyncio.to_thread(family.reference, started.folder, windows, LONG)

        done = [await started.engine.describe(one, LONG, f"clip/{i}/says") for i, one in enumerate(windows)]

        said = [one.token_ids for one in done]
        if family.differs:
            assert said != expected, f"vLLM says of {family.name} what its reference says now"
            pytest.skip(family.differs)
        assert said == expected

    async def test_data_gives_none_of_the_familys_special_tokens(self, started: Started) -> None:
        """Each of them as an attribute, in the question and in the system message, and as a sender's own words."""
        planner = _loaded(started).planner
        assert planner is not None
        encoder, items = planner.encoder, planner.form.items(2)
        control = ControlTokens.of(encoder.tokenizer)
        asked = Prompt("In {clip}, what moves?", system=PROMPT.system, places=("clip",))
        plain = control.in_(encoder.encode(filled(asked, lambda _: "x"), items))
        tokens = sorted(control.ids)

        for text in (*tokens[:100], *encoder.placeholder.texts(items), "".join(tokens[:100])):
            for prompt in (filled(asked, lambda _, value=text: value), with_words_behind(PROMPT, text)):
                with contextlib.suppress(Poison):  # where breaking it is not enough, the clip is rejected
                    assert control.in_(encoder.encode(prompt, items)) == plain, text

    async def test_batches(self, started: Started) -> None:
        """Windows of different shapes and counts of frames are encoded together."""
        if _loaded(started).engine is None:
            pytest.skip("there is no engine to ask")
        if started.family.batch_fault:
            pytest.skip(started.family.batch_fault)
        engine, windows = started.engine, _windows(started)
        assert engine is not None

        done = await asyncio.gather(*(engine.describe(one, LONG, f"clip/{i}/batch") for i, one in enumerate(windows)))

        assert [one.output_tokens for one in done] == [LONG.max_tokens] * len(windows)


class FamilyEngineContract(EngineContract):
    """The contract of engines, kept by a family's; an ``engine`` fixture gives it."""

    shape = (4, 56, 84)

    async def test_later_windows_of_a_clip_are_planned_too(self, engine: VllmEngine) -> None:
        window = noise(4, 56, 56, index=360)  # an hour into a film

        done = await engine.describe(window, ASK, "clip/360/0")

        assert done.prompt_tokens == engine.planner.prompt_tokens(4, 56, 56, ASK)

    async def test_frames_are_scaled_down_only_to_what_the_model_can_use(self, engine: VllmEngine) -> None:
        largest = engine.planner.max_frame_size

        assert largest is None or 56 <= largest.width <= 512


def _windows(started: Started) -> list[FrameSet]:
    """Return the windows whose answers are asked for, as far as the family can have them here."""
    return [one.window(seed) for seed, one in enumerate(ASKED) if one.num_frames <= started.family.max_frames]


def _loaded(started: Started) -> Started:
    if started.planner is None:
        pytest.skip("it does not load")
    return started
