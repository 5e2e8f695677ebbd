"""Tiny models here and behind vLLM's own server: the same question, so the same prompt tokens and the same captions."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

import neva
from connectors.contract import CaptionStatus
from daemon.answers.asking import Asked, ask
from daemon.config.engine_settings import OpenAISettings
from daemon.engines.contract import Completion, Engine
from daemon.engines.model.media_form import MediaForm
from daemon.engines.openai.engine import RemoteEngine
from daemon.engines.shared_rendering import SharedRendering
from daemon.engines.vllm.engine import VllmEngine
from daemon.prompts.answer_form import AnswerForm
from daemon.prompts.prompt import Prompt
from daemon.windows import FramePolicy, FrameSet, WindowPolicy
from neva.shapes.scenes import random_scene, write_clip
from testing import tiny_models
from tests.contract.ten_schemas import ANSWERS_EACH, SCHEMAS, answered, not_valid
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
FORMS = {"backend": "xgrammar", "disable_any_whitespace": True}
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
    in_form: list[Asked]  # twenty answers to each of ten schemas, from there


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
    # as several questions a window have it, and questions whose answers have a form
    asked = {"enable_prefix_caching": True, "structured_outputs_config": FORMS}
    async with running(model, names_windows=True, args=asked) as engine:
        yield Here(request.param, model, engine)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def said(here: Here, windows: list[FrameSet]) -> Said:
    """Ask the engine here, then the server."""
    family, model, said_here = here.family, here.model, await answers(here.engine, windows)
    log = logging.getLogger("daemon.engines.openai")
    kept = Kept()
    log.addHandler(kept)
    log.setLevel(logging.INFO)
    async with serving(model, None, TRUSTING, f"--structured-outputs-config={json.dumps(FORMS)}") as url:
        server = RemoteEngine(OpenAISettings(base_urls=(url,), model="tiny"), request_deadline_s=400.0)
        images = RemoteEngine(OpenAISettings(base_urls=(url,), model="tiny", media="images"), request_deadline_s=400.0)
        try:
            await asyncio.wait_for(server.start(), 400)
            there = await answers(server, windows)
            form, said = server._servers[0].form, [*kept.records]
            in_form = await answered(server)
            await images.start()
            (as_images,) = await answers(images, windows[7:8])
        finally:
            await server.close()
            await images.close()
            log.removeHandler(kept)
            log.setLevel(logging.NOTSET)
    return Said(family, said_here, there, as_images, form, said, in_form)


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


async def test_every_answer_fits_the_schema_that_it_was_asked_for(here: Here) -> None:
    found = await answered(here.engine)

    assert len(found) == len(SCHEMAS) * ANSWERS_EACH == 200
    assert not_valid(found) == []
    assert len({json.dumps(one.said.data) for one in found}) > 2 * len(SCHEMAS)  # the model chooses


async def test_every_answer_of_a_server_fits_the_schema_that_it_was_asked_for(said: Said) -> None:
    assert len(said.in_form) == 200
    assert not_valid(said.in_form) == []


async def test_answers_are_words_and_fit_expressions(here: Here) -> None:
    for number, form in enumerate((AnswerForm.of_choice(("yes", "no")), AnswerForm("regex", "[0-9]{2} (cars|dogs)"))):
        prompt = Prompt("?", form=form, temperature=1.0, seed=1, max_tokens=32)
        found = await ask(here.engine, noise(2, 56, 56, seed=number), prompt, partial(str, f"form/{number}"))

        assert found.said.status is CaptionStatus.SUCCESS, found.said


async def test_several_questions_share_one_rendering_and_what_vllm_has_of_their_beginning(here: Here) -> None:
    rendered = here.engine.rendering
    window = noise(8, 224, 224, seed=99)
    window.share(SharedRendering())
    before = here.engine.statistics.prefix_hits
    questions = [Prompt(f"{question} Answer in a few words.", max_tokens=8) for question in ("Who?", "Where?", "When?")]

    alone = [
        await here.engine.describe(noise(8, 224, 224, seed=99), question, f"alone/{number}")
        for number, question in enumerate(questions)
    ]
    none_hit = here.engine.statistics.prefix_hits
    done = rendered_windows(here.engine)
    together = await asyncio.gather(
        *(here.engine.describe(window, question, f"shared/{number}") for number, question in enumerate(questions))
    )

    assert rendered is not None
    assert none_hit == before  # a window by itself is found nowhere
    assert rendered_windows(here.engine) == done + 1
    assert [one.prompt_tokens for one in together] == [one.prompt_tokens for one in alone]
    assert [one.text for one in together] == [one.text for one in alone]
    vision = together[0].vision_tokens
    assert here.engine.statistics.prefix_hits - none_hit >= vision  # of two questions, but for parts of blocks


async def test_every_loop_is_found_of_a_model_that_loops_by_nature(here: Here) -> None:
    prompt = Prompt("Describe.", max_tokens=96, ignore_eos=True)
    judged = replace(prompt, stop_loops=True)
    windows = [noise(2, 56, 56, seed=number, index=number) for number in range(40)]

    plain = await asyncio.gather(
        *(here.engine.describe(one, prompt, f"plain/{number}") for number, one in enumerate(windows))
    )
    asked = await asyncio.gather(
        *(ask(here.engine, one, judged, partial(str, f"loop/{number}")) for number, one in enumerate(windows))
    )

    looping = {number for number, one in enumerate(plain) if goes_round(one.token_ids)}
    found = {number for number, one in enumerate(asked) if one.said.status is CaptionStatus.LOOPING}
    assert looping <= found
    if here.family.name != "bundled":  # that one was taught to end
        assert len(looping) >= 32
        assert sum(one.done.output_tokens for one in asked) < sum(one.output_tokens for one in plain)  # it was stopped


def goes_round(token_ids: tuple[int, ...]) -> bool:
    """Whether the last tokens are one unit, three times in a row."""
    units = (token_ids[-length:] for length in range(4, len(token_ids) // 3 + 1))
    return any(token_ids[-3 * len(unit) :] == unit * 3 for unit in units)


def rendered_windows(engine: VllmEngine) -> int:
    state = engine.rendering
    assert state is not None
    return state.done
