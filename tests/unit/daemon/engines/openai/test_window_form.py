"""How windows go to servers: as videos where those take them, and what is done where they refuse or change."""

import logging

import httpx
import numpy as np
import pytest

from connectors.errors import ConfigurationError
from daemon.config.engine_settings import OpenAISettings
from daemon.engines.model.media_form import MediaForm
from daemon.engines.openai import engine as remote_engine
from daemon.engines.openai.engine import ask_servers
from tests.unit.daemon.engines.openai.video_servers import (
    ASK,
    WINDOW,
    Network,
    Start,
    Stub,
    ask,
    media_of,
    pixels_of,
    refusing,
)
from tests.windows_of_noise import noise


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
