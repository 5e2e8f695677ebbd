"""Cameras that come back with another codec, size or frame rate, or switch while they send: windows go on behind it."""

import asyncio
import contextlib
import itertools
import os
from itertools import pairwise

import pytest

from connectors.stream.disk_recording import DiskRecording
from connectors.stream.recording import RecordedWindow
from testing.cameras.encoded_frames import numbers_in
from testing.cameras.ffmpeg_servers import UdpCamera
from testing.cameras.servers import CameraSettings, RtspCamera, why_no_rtsp
from tests.streams.conftest import Recordings
from tests.streams.watching import SECOND_NS, has_begun

pytestmark = pytest.mark.timeout(300)

LENGTH_NS = 2 * SECOND_NS

Seen = tuple[RecordedWindow, list[int]]


async def windows_over_a_change(recording: DiskRecording, start_ns: int) -> list[Seen]:
    """Return each window, and the numbers that its media shows, from a time to the first whole one behind a change."""
    found: list[Seen] = []
    for at in itertools.count(start_ns, LENGTH_NS):
        window = await recording.window(at, at + LENGTH_NS)
        numbers = []
        if window.media is not None:
            with contextlib.closing(window.media), os.fdopen(window.media.open(), "rb") as file:
                numbers = numbers_in(file.read())
        found.append((window, numbers))
        if numbers and not window.missing and any(before.missing for before, _ in found):
            break
    return found


def assert_windows_go_on(found: list[Seen]) -> None:
    """Hold that every window of which anything was recorded can be decoded, in the order in which frames were sent."""
    assert all((window.media is None) == (numbers == []) for window, numbers in found)
    assert all(-1 not in numbers for _, numbers in found)
    assert all(after > before for _, numbers in found for before, after in pairwise(numbers))
    assert found[0][1]
    assert found[-1][1]


@pytest.mark.skipif(bool(why_no_rtsp()), reason=why_no_rtsp() or "it is there")
@pytest.mark.parametrize(
    "changed",
    [
        CameraSettings(width=320, height=192, fps=10, gop=10),
        pytest.param(CameraSettings(codec="h265", config_interval=1), marks=pytest.mark.thorough),
        CameraSettings(codec="mjpeg", fps=10),
    ],
    ids=["size-and-rate", "h265", "mjpeg"],
)
async def test_a_camera_that_comes_back_with_another_format(recordings: Recordings, changed: CameraSettings) -> None:
    with RtspCamera() as camera:
        async with recordings.of(camera.url) as recording, asyncio.timeout(240):
            first_ns = await has_begun(recording)
            start_ns = -(-first_ns // LENGTH_NS) * LENGTH_NS
            await recording.window(start_ns, start_ns + LENGTH_NS)
            camera.kill()
            camera.settings = changed
            camera.start()
            found = await windows_over_a_change(recording, start_ns)

    assert_windows_go_on(found)
    reasons = {one.reason for window, _ in found for one in window.missing}
    assert reasons <= {"away", "format_changed"}
    assert "away" in reasons


@pytest.mark.parametrize(
    "changed",
    ["-s 320x192", *(pytest.param(f"-c:v {codec}", marks=pytest.mark.thorough) for codec in ("libx265", "mpeg2video"))],
)
async def test_a_transport_stream_that_switches_while_it_is_watched(recordings: Recordings, changed: str) -> None:
    with UdpCamera() as camera:
        async with recordings.of(camera.url, silence_s=60) as recording, asyncio.timeout(240):
            first_ns = await has_begun(recording)
            start_ns = -(-first_ns // LENGTH_NS) * LENGTH_NS
            await recording.window(start_ns, start_ns + LENGTH_NS)
            camera.kill()
            camera.start(*changed.split())
            found = await windows_over_a_change(recording, start_ns)

    assert_windows_go_on(found)
    reasons = {one.reason for window, _ in found for one in window.missing}
    assert reasons == {"format_changed"}
    assert recording.state.counters["connects"] == 1
