"""The frames that a window of a recording shows: their numbers, and their times on the wall clock."""

import os
from dataclasses import dataclass

import av

from connectors.stream.recording import RecordedWindow
from testing.cameras.painted_frames import number_of


@dataclass(frozen=True)
class SeenFrame:
    """A frame's number, and when it was on the wall clock."""

    number: int
    wall_ns: int


def seen_frames(window: RecordedWindow) -> list[SeenFrame]:
    """Return the frames that lie in a window, read back by decoding its media, which is closed."""
    if window.media is None:
        return []
    try:
        with os.fdopen(window.media.open(), "rb") as file, av.open(file) as container:
            frames = list(container.decode(video=0))
    finally:
        window.media.close()
    times = [int(frame.pts * frame.time_base * 10**9) for frame in frames]
    start, end = window.span_ns
    zero = window.start_ns - start
    return [
        SeenFrame(number_of(frame.to_ndarray(format="gray")), zero + at - times[0])
        for frame, at in zip(frames, times, strict=True)
        if start <= at - times[0] < end
    ]
