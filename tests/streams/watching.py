"""Windows of a recording as tests watch them, and what holds of their frames."""

import asyncio
from itertools import pairwise

from connectors.stream.disk_recording import DiskRecording
from testing.cameras.seen_frames import SeenFrame, seen_frames

SECOND_NS = 10**9


async def has_begun(recording: DiskRecording) -> int:
    """Wait for the first segment and return its time."""
    while recording.first_ns is None:
        await asyncio.sleep(0.05)
    return recording.first_ns


async def watched(recording: DiskRecording, windows: int, window_s: int = 2) -> list[list[SeenFrame]]:
    """Return the frames of so many windows, the first of them the first that is whole."""
    length_ns = window_s * SECOND_NS
    first = -(-await has_begun(recording) // length_ns)
    found = []
    for index in range(first, first + windows):
        window = await recording.window(index * length_ns, (index + 1) * length_ns)
        assert window.missing == ()
        found.append(seen_frames(window))
    return found


def assert_each_once(windows: list[list[SeenFrame]], fps: int = 25, *, exact_ns: int = 10**6) -> None:
    """Hold that no frame is lost and none is seen twice, and that each has its time to the millisecond."""
    frames = [frame for window in windows for frame in window]
    numbers = [frame.number for frame in frames]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    off_ns = [frame.wall_ns - frames[0].wall_ns - (frame.number - numbers[0]) * SECOND_NS // fps for frame in frames]
    assert max(map(abs, off_ns)) < exact_ns
    assert all(after.wall_ns > before.wall_ns for before, after in pairwise(frames))
