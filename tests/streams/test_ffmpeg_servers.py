"""MPEG-TS over UDP, RTMP and HLS from ffmpeg: each frame that was sent is in one window."""

import asyncio
import time
from itertools import pairwise
from pathlib import Path

from testing.cameras.ffmpeg_servers import HlsCamera, RtmpCamera, UdpCamera
from testing.cameras.seen_frames import seen_frames
from tests.streams.conftest import Recordings
from tests.streams.watching import SECOND_NS, assert_each_once, has_begun, watched

SLEWED_NS = 50_000_000  # arrival is no exact clock: its offset is followed by a 200th of the time


async def test_every_frame_of_a_transport_stream_is_in_one_window(recordings: Recordings) -> None:
    with UdpCamera() as camera:
        async with recordings.of(camera.url) as recording, asyncio.timeout(120):
            windows = await watched(recording, 2)

    assert_each_once(windows, exact_ns=SLEWED_NS)


async def test_every_frame_of_rtmp_is_in_one_window(recordings: Recordings) -> None:
    with RtmpCamera() as camera:
        async with recordings.of(camera.url) as recording, asyncio.timeout(120):
            windows = await watched(recording, 2)

    assert_each_once(windows, exact_ns=SLEWED_NS)


async def test_every_frame_of_hls_is_in_one_window(recordings: Recordings, tmp_path: Path) -> None:
    (tmp_path / "hls").mkdir()
    with HlsCamera(tmp_path / "hls") as camera:
        async with recordings.of(camera.url) as recording, asyncio.timeout(120):
            windows = await watched(recording, 2)
            start_ns = recording.first_ns or 0
            window = await recording.window(start_ns, start_ns + SECOND_NS)

    assert_each_once(windows)
    assert window.clock == "sender"


async def test_hls_goes_on_behind_a_discontinuity(recordings: Recordings, tmp_path: Path) -> None:
    (tmp_path / "hls").mkdir()
    with HlsCamera(tmp_path / "hls") as camera:
        async with recordings.of(camera.url, silence_s=60) as recording, asyncio.timeout(110):
            start_ns = await has_begun(recording)
            camera.kill()
            camera.start("-hls_flags", "program_date_time+delete_segments+temp_file+append_list+discont_start")
            again_ns = time.time_ns()
            while (recording.latest_ns or 0) < again_ns + 2 * SECOND_NS:
                await asyncio.sleep(0.05)
            window = await recording.window(start_ns, recording.latest_ns or 0)

    assert any(kind.startswith("mended_") for kind in recording.state.counters)  # clocks decide which

    frames = seen_frames(window)
    assert all(after.wall_ns > before.wall_ns for before, after in pairwise(frames))
    assert all(after.number > before.number for before, after in pairwise(frames))
    assert frames[-1].number - frames[0].number >= len(frames) - 1


async def test_hls_that_is_opened_again_brings_no_frame_twice(recordings: Recordings, tmp_path: Path) -> None:
    (tmp_path / "hls").mkdir()
    with HlsCamera(tmp_path / "hls") as camera:
        async with recordings.of(camera.url) as recording, asyncio.timeout(110):
            start_ns = await has_begun(recording)
            camera.shut()
            while recording.state.is_connected:
                await asyncio.sleep(0.05)
            camera.admit()
            while not recording.state.is_connected:
                await asyncio.sleep(0.05)
            window = await recording.window(start_ns, (recording.latest_ns or 0) + 2 * SECOND_NS)

    numbers = [frame.number for frame in seen_frames(window)]
    assert all(after > before for before, after in pairwise(numbers))
