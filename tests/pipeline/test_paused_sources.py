"""Sources that pause because their clips fail alike: they are tried again when asked, and a stop loses nothing."""

import asyncio
import itertools

import pytest

from daemon import alike_failures
from daemon.engines.fake import FaultScript
from tests.pipeline.alike import ALL, ENDLESS_S, filled, house, until


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
            await until(lambda: len(one.alike._sources["memory"].held) == 2)
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
