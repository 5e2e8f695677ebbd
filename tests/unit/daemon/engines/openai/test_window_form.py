"""How windows go to servers: as videos where those take them, and what is done where they refuse or change."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from connectors.errors import ConfigurationError, Poison, Transient
from daemon.config.engine_settings import OpenAISettings
from daemon.engines.model.media_form import MediaForm
from daemon.engines.openai import engine as remote_engine
from daemon.engines.openai.engine import RemoteEngine, ask_servers
from daemon.prompts.prompt import Prompt
from tests.unit.daemon.engines.openai.video_servers import Network, Stub, media_of, pixels_of, refusing
from tests.windows_of_noise import noise

ASK = Prompt("What is shown?", max_tokens=8)
WINDOW = noise(3, 6, 8, index=2)

Start = Callable[..., Any]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_engine, "_BACK_OFF_S", (0.01, 0.02))


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Return what starts an engine over stubs; it is closed after the test."""
    async with AsyncExitStack() as stack:

        async def started(*stubs: Stub, **changes: Any) -> RemoteEngine:
            network = Network({f"server{number}": stub for number, stub in enumerate(stubs)})
            urls = tuple(f"http://{host}/v1" for host in network.servers)
            settings = OpenAISettings(**{"base_urls": urls, "model": "shapes", "slots": 16, **changes})
            engine = RemoteEngine(settings, request_deadline_s=5.0, transport=httpx.MockTransport(network))
            stack.push_async_callback(engine.close)
            await engine.start()
            return engine

        yield started


async def ask(engine: RemoteEngine, count: int = 1) -> list[str]:
    done = await asyncio.gather(*(engine.describe(WINDOW, ASK, f"clip/{i}/{i}") for i in range(count)))
    return [one.text for one in done]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def test_a_window_goes_as_one_video_pixel_for_pixel_with_what_a_model_here_is_told(start: Start) -> None:
    stub = Stub()

    await ask(await start(stub))

    (body,) = stub.windows
    assert media_of(body) == "video"
    np.testing.assert_array_equal(pixels_of(body), WINDOW.frames)
    ((_, here),) = MediaForm("video", 2).window_media(WINDOW)["video"]
    told = body["media_io_kwargs"]["video"]
    assert told.pop("num_frames") == -1  # all: vLLM stops at 32 by itself
    assert told == {name: value for name, value in here.items() if name != "video_backend"}
    assert told["frames_indices"] == [1667, 5000, 8333]
    assert told["do_sample_frames"] is False


@pytest.mark.parametrize(
    ("stub", "frames"),
    [
        (Stub(), 2),  # merges pairs: a lone frame is repeated, as it is for a model here
        (Stub(least_frames=2), 2),
        (Stub(least_frames=2, merges_pairs=False), 2),
        (Stub(merges_pairs=False), 1),
    ],
)
async def test_a_window_of_one_frame_is_repeated_where_a_model_merges_pairs(
    start: Start, stub: Stub, frames: int
) -> None:
    engine = await start(stub)

    await engine.describe(noise(1, 6, 8), ASK, "clip/0/0")

    (body,) = stub.windows
    assert len(pixels_of(body)) == len(body["media_io_kwargs"]["video"]["frames_indices"]) == frames


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("stub", "probes", "why"),
    [
        (Stub(owned_by="someone"), 0, "it does not say that it is vLLM"),
        (Stub(refuses_videos=refusing()), 1, "the server answers 400: Per-request media_io_kwargs are disabled"),
        (Stub(refuses_videos=refusing(500, "no such loader")), 1, "the server answers 500: no such loader"),
        (Stub(reads_times=False), 2, "it passes over the times of a video's frames"),
    ],
)
async def test_images_go_to_a_server_that_takes_no_videos_and_one_warning_says_why(
    start: Start, caplog: pytest.LogCaptureFixture, stub: Stub, probes: int, why: str
) -> None:
    engine = await start(stub)

    await ask(engine, 4)

    assert {media_of(body) for body in stub.windows} == {"image"}
    np.testing.assert_array_equal(pixels_of(stub.windows[0]), WINDOW.frames)
    assert len(stub.probes) == probes
    (warning,) = warnings(caplog)
    assert why in warning
    assert "http://server0/v1 as images" in warning
    assert "no times, and may spend twice the tokens" in warning
    assert ".." not in warning


async def test_a_server_that_takes_videos_warns_of_nothing(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    await start(Stub())

    assert warnings(caplog) == []
    assert "Windows go to http://server0/v1 as videos with the times of their frames." in caplog.messages


async def test_where_images_are_asked_for_nothing_is_tried(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    stub = Stub()

    await ask(await start(stub, media="images"))

    assert media_of(stub.windows[0]) == "image"
    assert stub.probes == []
    assert warnings(caplog) == []


async def test_where_videos_are_asked_for_a_server_need_not_say_that_it_is_vllm(start: Start) -> None:
    stub = Stub(owned_by="a proxy")

    await ask(await start(stub, media="video"))

    assert media_of(stub.windows[0]) == "video"


@pytest.mark.parametrize("stub", [Stub(refuses_videos=refusing()), Stub(reads_times=False)])
async def test_where_videos_are_asked_for_a_server_that_takes_none_is_refused(start: Start, stub: Stub) -> None:
    with pytest.raises(ConfigurationError, match=r"engine\.media: http://server1/v1 takes no videos: "):
        await start(Stub(), stub, media="video")


async def test_each_server_of_several_gets_windows_in_its_own_form(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    video, images = Stub(), Stub(refuses_videos=refusing())
    engine = await start(video, images)

    assert await ask(engine, 8) == ["A red circle."] * 8

    assert {media_of(body) for body in video.windows} == {"video"}
    assert {media_of(body) for body in images.windows} == {"image"}
    (warning,) = warnings(caplog)
    assert "http://server1/v1 as images" in warning


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


async def test_a_check_says_how_windows_go_to_each_server(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network({"one": Stub(), "two": Stub(refuses_videos=refusing()), "three": Stub(is_away=True)})
    connect = remote_engine.connect
    monkeypatch.setattr(remote_engine, "connect", lambda *args: connect(*args[:-1], httpx.MockTransport(network)))
    urls = tuple(f"http://{host}/v1" for host in network.servers)

    planner, said = await ask_servers(OpenAISettings(base_urls=urls, model="shapes"), 5.0)

    assert planner is not None
    taken, refused = said
    assert taken == "Windows go to http://one/v1 as videos with the times of their frames."
    assert refused.startswith("Windows go to http://two/v1 as images and not as videos: the server answers 400")
