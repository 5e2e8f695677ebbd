"""Several questions a window, answers that are asked for again, and windows that are told of those before."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from connectors.contract import Attempt, Caption, CaptionStatus, Progress
from connectors.memory import FailingSink, MemoryInbox, MemorySink
from daemon.config.clip_settings import ClipSettings
from daemon.engines.fake import FakeEngine, FaultScript
from daemon.engines.shared_rendering import rendered_for
from daemon.pipeline import Pipeline
from daemon.prompts.answer_form import AnswerForm
from daemon.prompts.places import places_in
from daemon.prompts.prompt import Prompt
from testing.load import WINDOWS_EACH, write_load_clip
from tests.pipeline.in_memory import SECONDS, house

CAPTION, ALERT = Prompt("What happens?", name="caption"), Prompt("Is there a fire?", name="alert")
TWO = replace(SECONDS, prompt=CAPTION, others=(ALERT,))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clips") / "six.mp4"
    write_load_clip(path)
    return path.read_bytes()


class CountingSink(MemorySink):
    """Keeps how each progress came."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[Progress] = []

    async def write(self, progress: Progress) -> None:
        self.came.append(progress)
        await super().write(progress)


async def captions(
    video: bytes, settings: ClipSettings, script: FaultScript | None = None, sink: MemorySink | None = None
) -> tuple[list[Caption], Pipeline, FakeEngine]:
    """Return the captions of one clip."""
    inbox, sink = MemoryInbox(), sink or MemorySink()
    inbox.put("clip", video)
    async with house(inbox, sink, script, settings=settings) as (pipeline, fake):
        async with asyncio.timeout(60):
            await pipeline.run()
    (found,) = sink.captions.values()
    return found, pipeline, fake


def decoded(pipeline: Pipeline) -> float:
    """Return how many windows were decoded."""
    (family,) = pipeline.metrics.stage_seconds.collect()
    return sum(
        sample.value
        for sample in family.samples
        if sample.name.endswith("_count") and sample.labels["stage"] == "decode"
    )


async def test_each_window_is_decoded_once_and_its_answers_are_published_together(video: bytes) -> None:
    sink = CountingSink()

    found, pipeline, fake = await captions(video, TWO, sink=sink)

    assert [(one.window.index, one.prompt) for one in found] == [
        (index, name) for index in range(WINDOWS_EACH) for name in ("caption", "alert")
    ]
    assert decoded(pipeline) == WINDOWS_EACH
    assert len(fake.requests) == 2 * WINDOWS_EACH
    assert len({one.caption_id for one in found}) == 2 * WINDOWS_EACH
    assert len({one.plan_hash for one in found}) == 1
    for progress in sink.came:
        whole = Counter(one.window.index for one in progress.captions)
        assert set(whole.values()) <= {2}
        assert progress.next_window == max(whole, default=progress.next_window - 1) + 1


async def test_the_first_question_by_itself_has_the_id_that_it_has_beside_others(video: bytes) -> None:
    alone, _, _ = await captions(video, replace(SECONDS, prompt=CAPTION))
    beside, _, _ = await captions(video, TWO)

    assert [one.caption_id for one in alone] == [one.caption_id for one in beside if one.prompt == "caption"]


async def test_a_question_that_fails_takes_the_other_with_it_and_both_are_tried_again(video: bytes) -> None:
    class FailsOnce(FakeEngine):
        failed = False

        async def describe(self, frames, prompt, request_id, rendered=lambda _: None):  # type: ignore[no-untyped-def]
            if prompt.name == "alert" and frames.window.index == 2 and not self.failed:
                self.failed = True
                self.script = replace(self.script, fails=(request_id,))
            return await super().describe(frames, prompt, request_id, rendered)

    inbox, sink = MemoryInbox(), MemorySink()
    inbox.put("clip", video)
    async with house(inbox, sink, settings=TWO, engine_class=FailsOnce) as (pipeline, _):
        await pipeline.run()

    (found,) = sink.captions.values()
    assert [one.window.index for one in found] == [index for index in range(WINDOWS_EACH) for _ in range(2)]


async def test_an_answer_that_does_not_fit_is_asked_for_again_with_another_seed(video: bytes) -> None:
    form = AnswerForm.of_schema({"type": "object", "required": ["fire"], "properties": {"fire": {"type": "boolean"}}})
    asked = replace(SECONDS, prompt=Prompt("A fire?", form=form, retries=1))

    found, _, fake = await captions(video, asked, FaultScript(says={"": ('{"fire": "maybe"}', '{"fire": true}')}))

    good = [one for one in found if one.data is not None]
    assert [(one.status, one.data, one.reason) for one in good] == [(CaptionStatus.SUCCESS, {"fire": True}, "")] * 6
    tried = {one.attempts for one in good if one.attempts}
    said = "at $.fire: 'maybe' is not of type 'boolean'"
    assert tried == {(Attempt(CaptionStatus.INVALID, '{"fire": "maybe"}', "schema", said, 0.0, None, 1),)}
    assert {(one.temperature, one.seed) for one in fake.prompts} == {(0.0, None), (0.7, 1)}


async def test_what_never_fits_is_published_as_invalid_and_never_as_success(video: bytes) -> None:
    form = AnswerForm.of_schema({"type": "object"})
    asked = replace(SECONDS, prompt=Prompt("A fire?", form=form, retries=1))

    found, pipeline, fake = await captions(video, asked, FaultScript(says={"": ("No.",)}))

    assert [(one.status, one.text, one.data, one.reason) for one in found] == [
        (CaptionStatus.INVALID, "No.", None, "not_json")
    ] * WINDOWS_EACH
    assert all(len(one.attempts) == 1 for one in found)
    assert len(fake.requests) == 2 * WINDOWS_EACH
    assert pipeline.metrics.total(pipeline.metrics.questions_again) == WINDOWS_EACH


async def test_without_any_of_it_nothing_is_asked_again_and_messages_have_the_keys_that_they_had(video: bytes) -> None:
    found, _, fake = await captions(video, SECONDS, FaultScript(says={"": ("no no no no no no no no no no no no",)}))

    assert {one.status for one in found} == {CaptionStatus.SUCCESS}
    assert len(fake.requests) == WINDOWS_EACH
    assert {(one.prompt, one.data, one.reason, one.attempts, one.context_windows) for one in found} == {
        (None, None, "", (), None)
    }


TOLD = replace(
    SECONDS,
    prompt=Prompt("Before: {previous}. Now?", places=places_in("Before: {previous}. Now?", ""), context_windows=2),
)


async def test_each_window_is_told_what_was_said_of_the_two_before(video: bytes) -> None:
    says = FaultScript(says={"": tuple(f"Said {number}." for number in range(WINDOWS_EACH))}, reverse_by=3)

    found, _, fake = await captions(video, TOLD, says)

    assert [one.text for one in fake.prompts] == [
        "Before: . Now?",
        "Before: Said 0.. Now?",
        *(f"Before: Said {number - 2}.\nSaid {number - 1}.. Now?" for number in range(2, WINDOWS_EACH)),
    ]
    assert [one.context_windows for one in found] == [0, 1, *[2] * (WINDOWS_EACH - 2)]
    again, _, _ = await captions(video, TOLD, says)
    other, _, _ = await captions(video, TOLD, FaultScript(says={"": ("Something else.",)}))
    assert [one.caption_id for one in again] == [one.caption_id for one in found]
    assert [one.caption_id == before.caption_id for one, before in zip(other, found, strict=True)][:2] == [True, True]


async def test_clips_that_are_told_go_side_by_side(video: bytes) -> None:
    inbox, sink = MemoryInbox(), MemorySink()
    for number in range(4):
        inbox.put(f"clip{number}", video)
    most = 0

    class Watched(FakeEngine):
        at_work = 0

        async def describe(self, *args):  # type: ignore[no-untyped-def]
            nonlocal most
            self.at_work += 1
            most = max(most, self.at_work)
            try:
                return await super().describe(*args)
            finally:
                self.at_work -= 1

    async with house(inbox, sink, settings=TOLD, engine_class=Watched, delay_ms=100) as (pipeline, _):
        await pipeline.run()

    assert 1 < most <= 4
    assert all(len(held) == WINDOWS_EACH for held in sink.captions.values())


async def test_what_is_durable_is_told_again_after_an_end(video: bytes) -> None:
    inbox, kept = MemoryInbox(), MemorySink()
    inbox.put("clip", video)
    says = FaultScript(says={"": ("One.", "Two.", "Three.", "Four.", "Five.", "Six.")})
    failing = FailingSink(kept, [None, None, None, RuntimeError("the program ends here")])
    with pytest.raises(BaseExceptionGroup):
        async with house(inbox, failing, says, settings=TOLD) as (pipeline, _):
            await pipeline.run()
    reached = len(next(iter(kept.captions.values())))
    assert 0 < reached < WINDOWS_EACH
    before = FaultScript(says={"": ("One.", "Two.", "Three.", "Four.", "Five.", "Six.")[reached:]})

    async with house(inbox, kept, before, settings=TOLD) as (pipeline, fake):
        await pipeline.run()

    (found,) = kept.captions.values()
    whole, _, _ = await captions(video, TOLD, says)
    assert [one.window.index for one in found] == list(range(WINDOWS_EACH))
    assert [one.context_windows for one in found] == [one.context_windows for one in whole]
    texts = "\n".join(one.text for one in found[max(0, reached - 2) : reached])
    assert fake.prompts[0].text == f"Before: {texts}. Now?"


async def test_a_picture_that_shows_nothing_is_not_asked_about_where_that_is_asked_for(tmp_path: Path) -> None:
    clip = tmp_path / "black.mp4"
    with av.open(clip, "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        for _ in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        container.mux(stream.encode())
    value = clip.read_bytes()

    looked, _, asked = await captions(value, replace(TWO, unasked=("black", "frozen")))
    plain, _, _ = await captions(value, TWO)

    assert len(looked) == len(plain) == 6
    assert {(one.status, one.text, one.input) for one in looked} == {(CaptionStatus.EMPTY, "", "black")}
    assert not asked.requests
    assert {one.input for one in plain} == {None}
    assert [one.caption_id for one in looked] == [one.caption_id for one in plain]


def test_a_rendered_prompt_gets_another_end() -> None:
    class Range:
        offset, length = 1, 4

    rendered = {"prompt_token_ids": [1, 9, 9, 9, 9, 5, 6, 7], "mm_placeholders": {"video": [Range]}, "prompt": "x"}

    assert rendered_for(rendered, [1, 9, 5, 6, 7], [1, 9, 5, 8, 8, 8]) == {
        "prompt_token_ids": [1, 9, 9, 9, 9, 5, 8, 8, 8],
        "mm_placeholders": {"video": [Range]},
    }
    assert rendered_for(rendered, [1, 9, 5, 6, 7], [1, 9, 5, 6, 7]) == rendered
    assert rendered_for(rendered, [1, 9, 5, 6, 7], [2, 9, 5, 6, 7]) is None  # it differs in front of the media
    assert rendered_for(rendered, [1, 9, 5, 6, 3], [1, 9, 5, 6, 4]) is None  # the processor wrote another end
