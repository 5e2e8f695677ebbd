"""Clips that all fail alike are given back instead of rejected, and one success tells theirs from the rest."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest

from connectors.contract import PROMPT_FROM, SENDER, Clip
from connectors.errors import ConfigurationError
from connectors.folder.route import FolderRoute
from connectors.memory import MemoryInbox, MemorySink, MemorySource
from connectors.reopened_route import ReopenedRoute
from daemon import alike_failures
from daemon.alike_failures import AlikeFailures
from daemon.config.clip_settings import ClipSettings
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.sampler import Sampler
from daemon.engines.contract import Completion, Rendered, unheeded
from daemon.engines.fake import FakeEngine, FaultScript
from daemon.pipeline import Pipeline
from daemon.prompts.prompt import Prompt
from daemon.telemetry.metrics import Metrics
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, WindowPolicy
from testing.load import write_load_clip

WHOLE = ClipSettings(WindowPolicy(NS_PER_S, NS_PER_S, 0, whole=True), FramePolicy(num_frames=2), Prompt("Describe."))
ALL = FaultScript(refuses=("/",))
ENDLESS_S = 600.0


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clips") / "six.mp4"
    write_load_clip(path)
    return path.read_bytes()


class GatedEngine(FakeEngine):
    """A fake engine that lets one clip wait."""

    slow, goes_on = "none", asyncio.Event()

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        if self.slow in request_id:
            await self.goes_on.wait()
        return await super().describe(frames, prompt, request_id, rendered)


class House:
    """A pipeline over one source in memory."""

    def __init__(self, inbox: MemoryInbox, *, once: bool, clips: int, number: int) -> None:
        self.inbox, self.sink = inbox, MemorySink()
        self.fake = GatedEngine(slots=16)
        self.route = ReopenedRoute(lambda: FolderRoute(MemorySource("memory", inbox, once=once), self.sink))
        self.alike = AlikeFailures(number, {} if once else {"memory": self.route.reopen})
        self.sampler = Sampler(LimitsSettings(decoders=1), TimeoutsSettings())
        self.pipeline = Pipeline(
            [self.route],
            self.sampler,
            self.fake,
            lambda clip: self.choose(clip),
            max_clips_in_flight=clips,
            max_attempts=1,
            metrics=Metrics(),
            alike=self.alike,
        )

    def choose(self, clip: Clip) -> ClipSettings:
        """Let a clip ask its own question, and one named long ask for more tokens than any model has."""
        text = clip.attributes.get("prompt")
        settings = WHOLE if text is None else WHOLE.asked(text)
        many = Prompt("Describe.", max_tokens=10**6)
        return settings if "long" not in clip.media.name else ClipSettings(settings.windows, settings.frames, many)

    def refuse(self, *names: str) -> None:
        """Let the engine refuse clips by name."""
        deliveries = [held for held in self.inbox.unfinished if held in names]
        ids = {name: clip_id for name, clip_id in zip(deliveries, map(self.clip_id, deliveries), strict=True)}
        self.fake.script = FaultScript(refuses=tuple(ids.values()))

    @staticmethod
    def clip_id(name: str) -> str:
        from connectors.contract import clip_id_of

        return clip_id_of("memory", name)

    def reasons(self) -> dict[str, str]:
        """Return why clips were rejected, by name."""
        ended = self.inbox.ended
        return {name: str(one.rejection.reason) for name, one in ended.items() if one.rejection is not None}


@contextlib.asynccontextmanager
async def house(inbox: MemoryInbox, *, once: bool = True, clips: int = 8, number: int = 3) -> AsyncIterator[House]:
    built = House(inbox, once=once, clips=clips, number=number)
    await built.sampler.start()
    try:
        yield built
    finally:
        await built.route.close()
        await built.sampler.close()


def filled(video: bytes, *names: str, **attributes: str) -> MemoryInbox:
    inbox = MemoryInbox()
    for name in names:
        inbox.put(name, video, **attributes)
    return inbox


async def until(condition: object) -> None:
    assert callable(condition)
    while not condition():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("clips", [1, 2, 8])
@pytest.mark.parametrize("there", [3, 9])
async def test_an_inbox_is_not_emptied(video: bytes, clips: int, there: int) -> None:
    """Also where fewer clips fit in flight than must fail."""
    inbox = filled(video, *map(str, range(there)))

    async with house(inbox, clips=clips) as one:
        one.fake.script = ALL
        with pytest.raises(ConfigurationError, match=r"engine: source memory gave its clips back.*engine_refused"):
            await one.pipeline.run()
        assert one.pipeline.slots.in_flight == 0

    assert len(inbox.unfinished) == there
    assert inbox.ended == {}


async def test_fewer_are_rejected_at_the_end(video: bytes) -> None:
    inbox = filled(video, "a", "b")

    async with house(inbox) as one:
        one.fake.script = ALL
        await one.pipeline.run()

    assert one.reasons() == {"a": "engine_refused", "b": "engine_refused"}


@pytest.mark.parametrize(("clips", "names"), [(1, ["a", "b", "good", "c", "d"]), (8, ["a", "b", "good"])])
async def test_one_success_tells_whose_fault_it_is(video: bytes, clips: int, names: list[str]) -> None:
    inbox = filled(video, *names)
    bad = [name for name in names if name != "good"]

    async with house(inbox, clips=clips) as one:
        one.refuse(*bad)
        await one.pipeline.run()

    assert one.reasons() == dict.fromkeys(bad, "engine_refused")
    assert inbox.ended["good"].rejection is None


async def test_a_clip_that_still_runs_may_succeed(video: bytes) -> None:
    """Many that fail fast say nothing before the slow one beside them has ended."""
    inbox = filled(video, "slow", *(f"bad{number}" for number in range(5)))

    async with house(inbox) as one:
        one.refuse(*(f"bad{number}" for number in range(5)))
        one.fake.slow, one.fake.goes_on = one.clip_id("slow"), asyncio.Event()
        work = asyncio.create_task(one.pipeline.run())
        await until(lambda: len(one.alike._source("memory").held) >= 3)
        await asyncio.sleep(0.2)  # nothing happens
        assert inbox.ended == {}
        one.fake.goes_on.set()
        await work

    assert len(one.reasons()) == 5
    assert inbox.ended["slow"].rejection is None


async def test_each_reason_counts_by_itself(video: bytes) -> None:
    inbox = filled(video, "a", "long1", "b", "long2")

    async with house(inbox) as one:
        one.refuse("a", "b")
        await one.pipeline.run()

    assert sorted(one.reasons().values()) == ["engine_refused", "engine_refused", "over_context", "over_context"]


async def test_what_is_a_clips_own_is_rejected_at_once(video: bytes) -> None:
    inbox = filled(b"no video", *map(str, range(5)))

    async with house(inbox) as one:
        await one.pipeline.run()

    assert set(one.reasons().values()) == {"not_a_video"}


async def test_a_senders_question_does_not_pause_anybody(video: bytes) -> None:
    inbox = filled(video, *(f"long{number}" for number in range(5)), **{PROMPT_FROM: SENDER})

    async with house(inbox) as one:
        await one.pipeline.run()

    assert list(one.reasons().values()) == ["over_context"] * 5


async def test_zero_turns_it_off(video: bytes) -> None:
    inbox = filled(video, *map(str, range(7)))

    async with house(inbox, number=0) as one:
        one.fake.script = ALL
        await one.pipeline.run()

    assert len(one.reasons()) == 7


async def test_a_source_that_pauses_is_read_again_when_asked(video: bytes, caplog: pytest.LogCaptureFixture) -> None:
    names = [str(number) for number in range(9)]
    inbox = filled(video, *names)

    async with house(inbox, once=False, clips=2) as one:
        one.fake.script = ALL
        work = asyncio.create_task(one.pipeline.run())
        for _ in range(2):  # it is tried again, and fails again
            await until(lambda: one.alike.paused and one.route._is_closed)
            assert one.alike.paused == {"memory": "engine_refused"}
            assert " clips in a row failed as engine_refused: the script says so" in one.alike.why_paused["memory"]
            assert sorted(inbox.unfinished) == names
            assert one.alike.try_again() == ["memory"]
            await until(lambda: not one.alike.paused)
        await until(lambda: one.alike.paused and one.route._is_closed)
        one.fake.script = FaultScript()
        one.alike.try_again()
        await until(lambda: len(inbox.ended) == len(names))
        assert one.alike.paused == {}
        await one.pipeline.drain()
        await work

    assert one.reasons() == {}
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 3
    assert "then reload (SIGHUP) or start again" in errors[0].getMessage()


@pytest.mark.parametrize("paused", [True, False])
async def test_a_stop_gives_back_what_is_held(video: bytes, monkeypatch: pytest.MonkeyPatch, *, paused: bool) -> None:
    monkeypatch.setattr(alike_failures, "COMPANY_S", ENDLESS_S)
    inbox = filled(video, *(["a", "b", "c"] if paused else ["a", "b"]))

    async with house(inbox, once=False, clips=1) as one:
        one.fake.script = ALL
        work = asyncio.create_task(one.pipeline.run())
        if paused:
            await until(lambda: one.alike.paused)
        else:
            await until(lambda: len(one.alike._source("memory").held) == 2)
        await one.pipeline.drain()
        await work

    assert inbox.ended == {}
    assert len(inbox.unfinished) == (3 if paused else 2)


async def test_a_clip_that_stays_alone_is_rejected_and_still_counts(
    video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alike_failures, "COMPANY_S", 0.05)
    inbox = filled(video)

    async with house(inbox, once=False) as one:
        one.fake.script = ALL
        work = asyncio.create_task(one.pipeline.run())
        for name in ("a", "b"):
            inbox.put(name, video)
            await until(lambda: name in inbox.ended)  # noqa: B023
        inbox.put("c", video)
        await until(lambda: one.alike.paused)
        await one.pipeline.drain()
        await work

    assert sorted(one.reasons()) == ["a", "b"]
    assert inbox.unfinished == ["c"]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_nothing_is_lost_and_nothing_ends_twice(video: bytes, seed: int) -> None:
    """Good and bad clips in an order that differs each time, with a pause whenever there are enough bad ones."""
    import random

    chance = random.Random(seed)
    names = [f"{'bad' if chance.random() < 0.8 else 'good'}{number}" for number in range(16)]
    inbox = filled(video, *names)

    async with house(inbox, once=False, clips=chance.choice([1, 2, 5])) as one:
        one.refuse(*(name for name in names if name.startswith("bad")))
        work = asyncio.create_task(one.pipeline.run())
        for _ in itertools.count():
            await until(lambda: one.alike.paused or len(inbox.ended) == len(names) or len(inbox.unfinished) <= 3)
            if not one.alike.paused:
                break
            one.fake.script = FaultScript()  # whoever is asked mends it
            one.alike.try_again()
            await until(lambda: not one.alike.paused)
        await one.pipeline.drain()
        await work

    assert sorted([*inbox.ended, *inbox.unfinished]) == sorted(names)
    assert all(len(captions) == 1 for captions in one.sink.captions.values() if captions)
    good = {name for name, end in inbox.ended.items() if end.rejection is None}
    assert {name for name in inbox.ended if name.startswith("good")} <= good
