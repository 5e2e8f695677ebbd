"""RTSP from GStreamer's server: each frame that it sent is in one window, over TCP and UDP, whoever may watch."""

import asyncio

import pytest

from testing.cameras.servers import CameraSettings, RtspCamera, why_no_rtsp
from tests.streams.conftest import Recordings
from tests.streams.watching import SECOND_NS, assert_each_once, has_begun, watched

pytestmark = pytest.mark.skipif(bool(why_no_rtsp()), reason=why_no_rtsp() or "it is there")


@pytest.mark.parametrize(
    ("transport", "settings"),
    [
        ("tcp", CameraSettings()),
        ("udp", CameraSettings(auth="digest")),
        ("tcp", CameraSettings(auth="basic", bframes=2)),
        pytest.param("tcp", CameraSettings(codec="h265", config_interval=0), marks=pytest.mark.thorough),
    ],
    ids=["tcp", "udp-digest", "basic-bframes", "h265-sets-apart"],
)
async def test_every_frame_is_in_one_window(recordings: Recordings, transport: str, settings: CameraSettings) -> None:
    with RtspCamera(settings) as camera:
        async with recordings.of(camera.url, transport=transport) as recording:
            async with asyncio.timeout(120):
                windows = await watched(recording, 2)

    assert_each_once(windows)


async def test_the_senders_clock_is_taken(recordings: Recordings) -> None:
    with RtspCamera() as camera:
        async with recordings.of(camera.url) as recording, asyncio.timeout(60):
            start_ns = await has_begun(recording)
            window = await recording.window(start_ns, start_ns + SECOND_NS)

    assert window.clock == "sender"
