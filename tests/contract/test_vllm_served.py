"""Tiny models here and behind vLLM's own server: the same question, so the same prompt tokens and the same captions."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

import neva
from daemon.config.engine_settings import OpenAISettings
from daemon.engines.contract import Completion, Engine
from daemon.engines.model.media_form import MediaForm
from daemon.engines.openai.engine import RemoteEngine
from daemon.engines.vllm.engine import VllmEngine
from daemon.prompts.prompt import Prompt
from daemon.windows import FramePolicy, FrameSet, WindowPolicy
from neva.shapes.scenes import random_scene, write_clip
from testing import tiny_models
from tests.contract.vllm_engines import MARKS, running, serving
from tests.corpus.sampling import clip_of
from tests.corpus.sampling import running as sampling
from tests.families.registry import BY_MODEL
from tests.families.started import Started
from tests.families.suite import FamilyEngineContract, FamilySuite
from tests.windows_of_noise import noise

pytestmark = MARKS

ASK = Prompt("What is shown, frame by frame?", system="Be brief.", max_tokens=16, min_tokens=16)
SIZES = [(56, 56), (64, 112), (112, 64), (120, 160), (33, 47), (90, 28)]
TRUSTING = "--trust-request-mm-kwargs"  # vLLM reads no times of a request without it
VIDEO_IN_PAIRS = MediaForm("video", 2)


@dataclass(frozen=True)
class Family:
    """A tiny model, and the form in which its server takes windows."""

    name: str
    build: Callable[[Path], Path]
    form: MediaForm
    marks: tuple[pytest.MarkDecorator, ...] = (pytest.mark.families,)


FAMILIES = [
    Family("qwen3_vl", lambda folder: tiny_models.build("qwen3_vl", folder), VIDEO_IN_PAIRS, marks=()),
    Family("qwen2_5_vl", lambda folder: tiny_models.build("qwen2_5_vl", folder), VIDEO_IN_PAIRS),
    Family("bundled", lambda _: Path(neva.__file__).parent / "bundled", MediaForm("image")),
]


@dataclass(frozen=True)
class Said:
    """What a family says here and there about the same windows."""

    family: Family
    here: list[Completion]
    there: list[Completion]
    as_images: Completion  # of the window that comes eighth
    form: MediaForm | None
    log: list[logging.LogRecord]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def windows(tmp_path_factory: pytest.TempPathFactory) -> list[FrameSet]:
    """Return forty windows: noise of 1 to 8 frames and six sizes at any hour, and clips that were drawn and decoded."""
    folder = tmp_path_factory.mktemp("clips")
    found = [noise(1 + i % 8, *SIZES[i % 6], seed=i, index=i**2, window_s=1 + i) for i in range(32)]
    async with sampling() as sampler:
        for seed in range(8):
            write_clip(folder / f"{seed}.mp4", random_scene(seed))
            clip = clip_of(folder / f"{seed}.mp4")
            plan = await sampler.plan(clip, WindowPolicy(whole=True), FramePolicy(num_frames=1 + seed))
            async with aclosing(sampler.frame_sets(plan)) as sets:
                async for window in sets:
                    assert isinstance(window, FrameSet)
                    sampler.release(window)
                    found.append(window)
            plan.close()
    return found


@dataclass(frozen=True)
class Here:
    """A family's model in the engine here."""

    family: Family
    model: Path
    engine: VllmEngine


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[pytest.param(one, id=one.name, marks=one.marks) for one in FAMILIES]
)
async def here(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Here]:
    model = request.param.build(tmp_path_factory.mktemp("models"))
    async with running(model) as engine:
        yield Here(request.param, model, engine)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def said(here: Here, windows: list[FrameSet]) -> Said:
    """Ask the engine here, then the server."""
    family, model, answered = here.family, here.model, await answers(here.engine, windows)
    log = logging.getLogger("daemon.engines.openai")
    kept = Kept()
    log.addHandler(kept)
    log.setLevel(logging.INFO)
    async with serving(model, None, TRUSTING) as url:
        server = RemoteEngine(OpenAISettings(base_urls=(url,), model="tiny"), request_deadline_s=60.0)
        images = RemoteEngine(OpenAISettings(base_urls=(url,), model="tiny", media="images"), request_deadline_s=60.0)
        try:
            await asyncio.wait_for(server.start(), 400)
            there = await answers(server, windows)
            form, said = server._servers[0].form, [*kept.records]
            await images.start()
            (as_images,) = await answers(images, windows[7:8])
        finally:
            await server.close()
            await images.close()
            log.removeHandler(kept)
            log.setLevel(logging.NOTSET)
    return Said(family, answered, there, as_images, form, said)


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


async def answers(engine: Engine, windows: list[FrameSet]) -> list[Completion]:
    """Return the greedy answer about each window."""
    return list(
        await asyncio.gather(*(engine.describe(one, ASK, f"clip/{i}/{id(engine)}") for i, one in enumerate(windows)))
    )


@pytest.fixture
def engine(here: Here) -> VllmEngine:
    return here.engine


@pytest.fixture
def started(here: Here) -> Started:
    return Started(BY_MODEL[here.family.name], here.model, here.engine.planner, here.engine)


of_the_first = pytest.mark.parametrize(
    "here", [pytest.param(FAMILIES[0], id=FAMILIES[0].name)], indirect=True, scope="module"
)


@of_the_first
class TestServedFamily(FamilySuite):
    """What every family keeps, of the one that each run starts: its engine is up for its answers."""


@of_the_first
class TestServedModel(FamilyEngineContract):
    pass


async def test_a_window_costs_the_same_tokens(said: Said) -> None:
    assert [one.prompt_tokens for one in said.there] == [one.prompt_tokens for one in said.here]


async def test_a_window_gets_the_same_caption(said: Said) -> None:
    assert [one.text for one in said.there] == [one.text for one in said.here]
    assert len({one.text for one in said.here}) > 5


async def test_as_images_a_window_is_another_question_to_a_model_that_takes_videos(said: Said) -> None:
    video, images = said.there[7], said.as_images
    is_same = (images.prompt_tokens, images.text) == (video.prompt_tokens, video.text)

    assert is_same == (said.family.form.modality == "image")


async def test_the_server_is_found_out_and_the_log_says_how_windows_go(said: Said) -> None:
    assert said.form == said.family.form
    (record,) = [record for record in said.log if "Windows go to" in record.getMessage()]
    is_video = said.family.form.modality == "video"
    assert record.levelno == (logging.INFO if is_video else logging.WARNING)
    assert f"as {said.family.form.modality}s" in record.getMessage()
