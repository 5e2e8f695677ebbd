"""Faults of a camera and of the recorder, with a real server: each frame is in one window or its time is a gap."""

import asyncio
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from testing.cameras.seen_frames import seen_frames
from testing.cameras.servers import CameraSettings, RtspCamera, why_no_rtsp
from tests.streams.conftest import Recordings
from tests.streams.watching import SECOND_NS, has_begun

pytestmark = pytest.mark.skipif(bool(why_no_rtsp()), reason=why_no_rtsp() or "it is there")


async def connected(recording: object, wanted: bool) -> None:
    while recording.state.is_connected is not wanted:  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)


async def test_a_camera_that_dies_and_comes_back_leaves_a_gap_and_no_frame_twice(recordings: Recordings) -> None:
    with RtspCamera() as camera:
        async with recordings.of(camera.url) as recording, asyncio.timeout(110):
            start_ns = await has_begun(recording)
            await recording.window(start_ns, start_ns + SECOND_NS)
            camera.kill()
            await connected(recording, False)
            camera.start()
            await connected(recording, True)
            end_ns = (recording.latest_ns or 0) + 2 * SECOND_NS
            window = await recording.window(start_ns, end_ns)

    frames = seen_frames(window)
    assert {one.reason for one in window.missing} == {"away"}
    assert all(after.wall_ns > before.wall_ns for before, after in pairwise(frames))
    assert frames[-1].wall_ns > window.missing[-1].exclusive_end_ns - SECOND_NS


async def test_a_camera_that_hangs_without_closing_is_noticed(recordings: Recordings) -> None:
    with RtspCamera() as camera:
        async with recordings.of(camera.url, silence_s=2) as recording, asyncio.timeout(120):
            await has_begun(recording)
            camera.hang()
            await connected(recording, False)
            reason = recording.state.reason
            at_ns = recording.latest_ns or 0
            gap = await recording.window(at_ns, at_ns + SECOND_NS)
            camera.go_on()
            await connected(recording, True)

    assert reason == "silent"
    assert gap.media is None
    assert {one.reason for one in gap.missing} <= {"silent", "away"}


async def test_a_recorder_that_dies_or_hangs_is_started_again(
    recordings: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.stream.recorder_process._SIGN_OF_LIFE_S", 5.0)
    with RtspCamera() as camera:
        async with recordings.of(camera.url, silence_s=1) as recording, asyncio.timeout(110):
            start_ns = await has_begun(recording)
            for fatal in (signal.SIGKILL, signal.SIGSTOP):
                pid = recording.pid
                assert pid is not None
                os.kill(pid, fatal)
                while recording.pid in (pid, None):
                    await asyncio.sleep(0.05)
                latest_ns = recording.latest_ns or 0
                while (recording.first_ns or 0) and (recording.latest_ns or 0) < latest_ns + 3 * SECOND_NS:
                    await asyncio.sleep(0.05)
            window = await recording.window(start_ns, (recording.latest_ns or 0))

    assert {one.reason for one in window.missing} <= {"not_recording", "away"}
    numbers = [frame.number for frame in seen_frames(window)]
    assert len(set(numbers)) == len(numbers)


async def test_what_was_recorded_before_a_restart_is_there_after_it(recordings: Recordings) -> None:
    with RtspCamera() as camera:
        async with recordings.of(camera.url) as recording, asyncio.timeout(60):
            start_ns = await has_begun(recording)
            await recording.window(start_ns, start_ns + 2 * SECOND_NS)
        async with recordings.of(camera.url) as recording, asyncio.timeout(60):
            first_ns = recording.first_ns
            window = await recording.window(start_ns, start_ns + 2 * SECOND_NS)
            whole = await recording.window(start_ns, (recording.latest_ns or 0) + 2 * SECOND_NS)

    assert first_ns == start_ns
    assert len(seen_frames(window)) == 50
    assert {one.reason for one in whole.missing} <= {"not_recording", "away"}
    seen_frames(whole)


async def test_a_recorder_that_outlives_the_daemon_goes_on_and_is_found(recordings: Recordings) -> None:
    with RtspCamera() as camera:
        async with recordings.of(camera.url, record_while_down=True) as recording, asyncio.timeout(60):
            start_ns = await has_begun(recording)
            pid = recording.pid
            assert pid is not None
        try:
            async with recordings.of(camera.url, record_while_down=True) as recording, asyncio.timeout(60):
                window = await recording.window(start_ns, time.time_ns() + SECOND_NS)
                os.kill(pid, 0)
        finally:
            os.kill(pid, signal.SIGKILL)

    numbers = [frame.number for frame in seen_frames(window)]
    assert window.missing == ()
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_the_user_and_the_password_are_nowhere(
    recordings: Recordings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = CameraSettings(auth="digest", user="viewer-of-the-door")
    with RtspCamera(settings) as camera:
        async with recordings.of(camera.url) as recording, asyncio.timeout(60):
            await has_begun(recording)
            processes = {
                path.parent.name: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path)
            }
            environment = Path(f"/proc/{recording.pid}/environ")
            of_recorder = environment.read_bytes() if readable(environment) else b""
            wrong = camera.url.replace(settings.password, "wr0ng-w0rd")
        async with recordings.of(wrong, name="shut") as refused, asyncio.timeout(60):
            while not refused.state.reason or refused.state.reason == "connecting":
                await asyncio.sleep(0.05)
            shown = repr(refused.state)

    assert refused.state.reason == "unauthorized"
    said = [*processes.values(), of_recorder, shown.encode(), caplog.text.encode()]
    said += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for secret in (settings.password, settings.user, "wr0ng-w0rd"):
        assert not any(secret.encode() in text for text in said), secret
    assert {path.stat().st_mode & 0o077 for path in tmp_path.rglob("streams/**/*")} == {0}


def readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True
