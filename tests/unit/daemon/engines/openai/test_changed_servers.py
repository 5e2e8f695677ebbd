"""Servers that are replaced, busy, failing or away: each is asked again what it takes, and no window is lost."""

import asyncio
import logging

import numpy as np
import pytest

from connectors.errors import Poison, Transient
from daemon.engines.openai import engine as remote_engine
from daemon.engines.openai.engine import RemoteEngine
from tests.unit.daemon.engines.openai.video_servers import (
    WINDOW,
    Start,
    Stub,
    ask,
    media_of,
    pixels_of,
    refusing,
    until,
)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_server_that_was_replaced_unseen_by_one_without_videos_gets_images_and_no_window_is_lost(
    start: Start,
) -> None:
    stub = Stub()
    engine = await start(stub)
    assert len(stub.probes) == 3
    stub.refuses_videos = refusing()

    assert await ask(engine, 8) == ["A red circle."] * 8

    assert len(stub.probes) == 4  # asked once for all of them
    sent = [media_of(body) for body in stub.windows]
    assert "video" in sent
    assert sent.count("image") == 8
    await ask(engine)
    assert media_of(stub.windows[-1]) == "image"
    np.testing.assert_array_equal(pixels_of(stub.windows[-1]), WINDOW.frames)


@pytest.mark.parametrize("is_better", [True, False])
async def test_a_server_that_was_away_is_asked_again_what_it_takes(start: Start, *, is_better: bool) -> None:
    stub = Stub(refuses_videos=refusing() if is_better else None)
    engine = await start(stub)
    stub.is_away = True
    request = asyncio.create_task(ask(engine))
    await until(lambda: bool(engine.waiting_for))
    stub.refuses_videos = None if is_better else refusing()
    stub.is_away = False

    assert await request == ["A red circle."]

    assert [media_of(body) for body in stub.windows] == ["video" if is_better else "image"]


async def test_a_server_that_is_only_busy_is_not_asked_again(start: Start) -> None:
    stub = Stub(window_reply=refusing(429, "slow down"))
    engine = await start(stub)
    request = asyncio.create_task(ask(engine))
    await until(lambda: bool(engine.waiting_for))
    stub.window_reply = None

    await request

    assert len(stub.probes) == 3


async def test_where_videos_are_asked_for_a_server_that_no_longer_takes_them_is_waited_for(start: Start) -> None:
    stub = Stub()
    engine = await start(stub, media="video")
    stub.refuses_videos = refusing()
    request = asyncio.create_task(ask(engine))
    await until(lambda: "media_io_kwargs are disabled" in engine.waiting_for)
    assert not request.done()
    stub.refuses_videos = None

    assert await request == ["A red circle."]
    assert {media_of(body) for body in stub.windows} == {"video"}


async def test_where_videos_are_asked_for_a_server_that_fails_over_them_is_waited_for(start: Start) -> None:
    stub = Stub(refuses_videos=refusing(500, "not now"))
    engine = await start(stub, media="video")
    request = asyncio.create_task(ask(engine))
    await until(lambda: "not now" in engine.waiting_for)
    stub.refuses_videos = None

    assert await request == ["A red circle."]
    assert {media_of(body) for body in stub.windows} == {"video"}


async def test_a_window_that_is_refused_while_videos_are_taken_is_at_fault_itself(start: Start) -> None:
    stub = Stub(window_reply=refusing(400, "bad image"))
    engine = await start(stub)

    with pytest.raises(Poison, match="bad image"):
        await ask(engine)

    assert len(stub.windows) == 1


async def test_a_window_above_the_context_is_at_fault_without_another_look(start: Start) -> None:
    stub = Stub(window_reply=refusing(400, "maximum context length is 4096"))
    engine = await start(stub)

    with pytest.raises(Poison, match="maximum context length"):
        await ask(engine)

    assert len(stub.probes) == 3


async def test_others_go_on_while_a_server_is_asked_about_a_window_that_it_refused(start: Start) -> None:
    stub = Stub(window_reply=refusing(400, "bad image"))
    engine = await start(stub)
    stub.probes_may_be_answered.clear()
    refused = asyncio.create_task(ask(engine))
    await until(lambda: len(stub.probes) == 4)
    stub.window_reply = None

    assert await ask(engine, 4) == ["A red circle."] * 4

    assert not refused.done()
    stub.probes_may_be_answered.set()
    with pytest.raises(Poison, match="bad image"):
        await refused


async def test_a_window_over_which_a_server_fails_and_goes_counts_an_attempt(start: Start) -> None:
    """Else a clip that kills the server would be sent again for ever."""
    stub = Stub(window_reply=refusing(500, "the engine died"), goes_after_refusal=True)
    engine = await start(stub)

    with pytest.raises(Transient, match="the engine died"):
        await ask(engine)


async def test_a_refusal_by_a_server_that_goes_then_is_not_the_last_word(start: Start) -> None:
    stub = Stub(window_reply=refusing(400, "unknown field"), goes_after_refusal=True)
    engine = await start(stub)
    request = asyncio.create_task(ask(engine))
    await until(lambda: bool(engine.waiting_for))
    stub.window_reply, stub.is_away = None, False

    assert await request == ["A red circle."]


async def eight_waiting(engine: RemoteEngine, *stubs: Stub) -> "asyncio.Task[list[str]]":
    """Return eight requests that the servers have and do not answer yet."""
    for stub in stubs:
        stub.may_answer.clear()
    requests = asyncio.create_task(ask(engine, 8))
    await until(lambda: [server.in_flight for server in engine._servers] == [4, 4])
    return requests


async def test_a_server_that_was_away_at_the_start_is_asked_once_however_many_windows_wait(start: Start) -> None:
    first, late = Stub(), Stub(is_away=True)
    engine = await start(first, late)
    late.is_away = False
    requests = await eight_waiting(engine, first, late)

    first.may_answer.set()
    late.may_answer.set()
    await requests

    assert len(late.probes) == 3
    assert len(late.windows) == 4
    assert {media_of(body) for body in late.windows} == {"video"}


async def test_a_server_that_goes_while_it_is_asked_is_away_for_all_who_wait(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_engine, "_BACK_OFF_S", (60.0,))
    first, late = Stub(), Stub(is_away=True)
    engine = await start(first, late)
    late.is_away = False
    requests = await eight_waiting(engine, first, late)
    late.is_away, late.unheard = True, 0
    first.may_answer.set()
    late.may_answer.set()

    assert await requests == ["A red circle."] * 8
    assert late.unheard == 1
    assert len(first.windows) == 8


async def test_a_window_that_is_given_up_while_a_server_is_asked_leaves_the_others_alone(start: Start) -> None:
    first, late = Stub(), Stub(is_away=True)
    engine = await start(first, late)
    first.is_away, late.is_away = True, False
    late.may_answer.clear()
    gone, stays = (asyncio.create_task(ask(engine)) for _ in range(2))
    await until(lambda: engine._servers[1].in_flight == 2)
    gone.cancel()
    late.may_answer.set()

    assert await stays == ["A red circle."]
