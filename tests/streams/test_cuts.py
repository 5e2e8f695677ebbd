"""Streams that are cut in the middle of a packet: a frame of which a part came costs no other frame its window."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from connectors.stream.disk_recording import DiskRecording
from testing.cameras.encoded_frames import numbers_in
from testing.cameras.ffmpeg_servers import HlsCamera, RtmpCamera, UdpCamera
from testing.cameras.servers import CameraSettings, RtspCamera, why_no_rtsp
from testing.cameras.tcp_proxy import TcpProxy
from testing.cameras.udp_relay import UdpRelay
from tests.streams.conftest import Recordings
from tests.streams.watching import SECOND_NS, has_begun

GROUP = 25  # frames from a key frame to the next
CUT_AT_BYTES = (6_000, 7_001, 9_004)  # within a few seconds: the frames are small


async def connected(recording: DiskRecording, wanted: bool) -> None:
    while recording.state.is_connected is not wanted:
        await asyncio.sleep(0.02)


async def numbers_by_second(recording: DiskRecording, start_ns: int, end_ns: int) -> list[list[int]]:
    """Return the numbers that each second's media shows to a decoder, where anything was recorded of it."""
    found = []
    for at in range(start_ns - start_ns % SECOND_NS, end_ns, SECOND_NS):
        window = await recording.window(at, at + SECOND_NS)
        if window.media is not None:
            with contextlib.closing(window.media), os.fdopen(window.media.open(), "rb") as file:
                found.append(numbers_in(file.read()))
    return found


def assert_each_shows_its_own(seconds: list[list[int]]) -> None:
    """Hold that every second shows frames in their order; one that was cut may show what was there before it."""
    assert len(seconds) > 2
    for numbers in seconds:
        whole = [number for number in numbers if number >= 0]
        assert len(whole) >= len(numbers) - 1
        assert whole
        assert whole == sorted(whole)


@pytest.mark.thorough
@pytest.mark.skipif(bool(why_no_rtsp()), reason=why_no_rtsp() or "it is there")
async def test_rtsp_that_is_cut_within_a_packet_costs_no_other_frame(recordings: Recordings) -> None:
    with RtspCamera() as camera, contextlib.closing(TcpProxy(camera.port)) as proxy:
        url = camera.url.replace(f":{camera.port}/", f":{proxy.port}/")
        async with recordings.of(url, segment_s=0.5) as recording, asyncio.timeout(120):
            for allowance in CUT_AT_BYTES:
                proxy.allowance = allowance
                await connected(recording, True)
                await connected(recording, False)
            start_ns, end_ns = await has_begun(recording), recording.latest_ns or 0
            seconds = await numbers_by_second(recording, start_ns, end_ns)

    assert_each_shows_its_own(seconds)


async def test_rtmp_that_is_cut_within_a_packet_costs_no_other_frame(recordings: Recordings) -> None:
    with RtmpCamera() as camera:
        port = int(camera.url.split(":")[2].partition("/")[0])
        with contextlib.closing(TcpProxy(port)) as proxy:
            proxy.allowance = 11_003
            url = camera.url.replace(f":{port}/", f":{proxy.port}/")
            async with recordings.of(url) as recording, asyncio.timeout(120):
                await connected(recording, True)
                await connected(recording, False)
                start_ns, end_ns = await has_begun(recording), recording.latest_ns or 0
                seconds = await numbers_by_second(recording, start_ns, end_ns)

    assert_each_shows_its_own(seconds)


async def test_a_segment_of_hls_that_is_cut_short_costs_its_own_frames(recordings: Recordings, tmp_path: Path) -> None:
    (tmp_path / "hls").mkdir()
    with HlsCamera(tmp_path / "hls") as camera:
        async with recordings.of(camera.url) as recording, asyncio.timeout(120):
            start_ns = await has_begun(recording)
            camera.cut_short(1)
            while camera.to_cut:
                await asyncio.sleep(0.05)
            end_ns = (recording.latest_ns or 0) + 4 * SECOND_NS
            seconds = await numbers_by_second(recording, start_ns, end_ns)

    assert all(seconds)
    numbers = {number for second in seconds for number in second}
    whole = [number // 25 for number in sorted(numbers)]
    assert sum(whole.count(second) < 25 for second in set(whole)) <= 3  # the cut one, and those at both ends


@pytest.mark.skipif(bool(why_no_rtsp()), reason=why_no_rtsp() or "it is there")
async def test_rtp_that_is_lost_costs_nothing_behind_the_next_key_frame(recordings: Recordings) -> None:
    with RtspCamera(CameraSettings(loses_each=73, width=640, height=360)) as camera:
        async with recordings.of(camera.url, transport="udp") as recording, asyncio.timeout(120):
            start_ns = await has_begun(recording)
            while (recording.latest_ns or 0) < start_ns + 6 * SECOND_NS:
                await asyncio.sleep(0.05)
            seconds = await numbers_by_second(recording, start_ns, start_ns + 6 * SECOND_NS)

    assert_loss_ends_at_the_next_key_frame(seconds)


async def test_a_transport_stream_that_loses_packets_costs_nothing_behind_the_next_key_frame(
    recordings: Recordings,
) -> None:
    parts = (0, 3 * 188, 3 * 188 + 50)  # a datagram, whole packets of one, and half a packet
    with UdpCamera() as camera, contextlib.closing(UdpRelay(int(camera.url.rpartition(":")[2]))) as relay:
        async with recordings.of(f"udp://127.0.0.1:{relay.port}") as recording, asyncio.timeout(120):
            start_ns = await has_begun(recording)
            for kept_bytes in parts:
                relay.lose(kept_bytes)
                await asyncio.sleep(2)
            seconds = await numbers_by_second(recording, start_ns, recording.latest_ns or 0)

    groups = assert_loss_ends_at_the_next_key_frame(seconds)
    assert sum(count < GROUP for count in groups) <= len(parts)


def assert_loss_ends_at_the_next_key_frame(seconds: list[list[int]]) -> list[int]:
    """Hold that each window begins right and is right again at each key frame; return what each group shows right."""
    assert len(seconds) > 4
    for numbers in seconds:
        keys = [number for number in numbers if number >= 0 and number % GROUP == 0]
        assert numbers[0] == keys[0]
        assert set(range(numbers[0], max(numbers) + 1, GROUP)) <= set(keys)
    shown: dict[int, set[int]] = {}
    for number in (number for numbers in seconds for number in numbers if number >= 0):
        shown.setdefault(number // GROUP, set()).add(number)
    return [len(numbers) for _, numbers in sorted(shown.items())][:-1]
