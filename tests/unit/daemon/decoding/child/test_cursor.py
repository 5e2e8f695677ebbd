"""Decoding no more than is needed: no group twice while windows follow each other, none that no window needs."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from daemon.decoding.child.cursor import FrameCursor
from daemon.decoding.child.session import plan
from daemon.decoding.child.stream.decoder import Orientations
from daemon.windows import NS_PER_S, WindowPolicy
from tests.corpus.clips import Truth
from tests.corpus.painted import HEIGHT, WIDTH, read
from tests.unit.daemon.decoding.child.counting import FRAMES, LIMITS, CountingSession, windows_of


def test_windows_in_a_row_decode_nothing_twice(session: CountingSession) -> None:
    windows = windows_of(session, WindowPolicy(2 * NS_PER_S, 2 * NS_PER_S, 0))

    for at, window in enumerate(windows):
        shown, frames = session.take(windows, at)
        assert shown == list(window.frame_indices) == [int(read(frame)) for frame in frames]
    assert session.decoded() <= FRAMES


@pytest.mark.parametrize("together", [2, 6])
def test_overlapping_windows_opened_together_decode_nothing_twice(session: CountingSession, together: int) -> None:
    windows = windows_of(session, WindowPolicy(2 * NS_PER_S, NS_PER_S, 0))

    for at, window in enumerate(windows):
        shown, frames = session.take(windows, at, together)
        assert shown == list(window.frame_indices) == [int(read(frame)) for frame in frames]
    assert session.decoded() <= FRAMES


def test_overlapping_windows_opened_alone_are_still_right(session: CountingSession) -> None:
    windows = windows_of(session, WindowPolicy(2 * NS_PER_S, NS_PER_S // 2, 0))

    for at, window in enumerate(windows):
        shown, frames = session.take(windows, at)
        assert shown == list(window.frame_indices) == [int(read(frame)) for frame in frames]


def test_groups_without_a_sample_are_not_decoded(truth: Truth, session: CountingSession) -> None:
    index = session.index_of_clip  # type: ignore[attr-defined]
    group = FRAMES // max(int(index.keyframes.sum()), 1)
    windows = windows_of(session, WindowPolicy(whole=True), count=2)

    session.take(windows, 0)

    assert session.decoded() <= 2 * (group + 8)


def test_the_first_window_needs_a_tenth_at_most(truth: Truth, session: CountingSession) -> None:
    windows = windows_of(session, WindowPolicy(NS_PER_S, NS_PER_S, 0))

    session.take(windows, 0)

    assert session.decoded() <= FRAMES // 10


def test_frames_can_be_asked_for_in_any_order(truth: Truth, session: CountingSession) -> None:
    index = session.index_of_clip  # type: ignore[attr-defined]
    descriptor = os.open(truth.path, os.O_RDONLY)
    cursor = FrameCursor(descriptor, index, LIMITS)
    order = np.random.default_rng(1).permutation(FRAMES)[:60]
    for number in [int(n) for n in order]:
        cursor.want([number])
        shown = cursor.get(number)
        assert shown is not None
        assert shown[0] == number
        assert int(read(shown[1].to_ndarray(format="rgb24"))) == number
    cursor.close()
    os.close(descriptor)


def test_a_parked_session_goes_on(session: CountingSession) -> None:
    windows = windows_of(session, WindowPolicy(2 * NS_PER_S, 2 * NS_PER_S, 0))

    for at, window in enumerate(windows):
        session.park()
        shown, frames = session.take(windows, at)
        assert shown == list(window.frame_indices) == [int(read(frame)) for frame in frames]


def test_a_plan_reads_no_more_than_one_frame_of_pixels(truth: Truth, tmp_path: Path) -> None:
    descriptor = os.open(truth.path, os.O_RDONLY)
    answer, index = plan(descriptor, LIMITS, lambda: None)
    os.close(descriptor)

    assert (answer.width, answer.height, len(index)) == (WIDTH, HEIGHT, FRAMES)


def test_frames_are_given_back_without_the_collector(truth: Truth) -> None:
    """A frame in a cycle keeps its picture until the collector runs, and the decoder can't use it again."""
    descriptor = os.open(truth.path, os.O_RDONLY)
    _, index = plan(descriptor, LIMITS, lambda: None)
    cursor = FrameCursor(descriptor, index, LIMITS)

    def frames() -> int:
        return sum(type(thing).__name__ == "VideoFrame" for thing in gc.get_objects())

    gc.collect()
    before = frames()
    gc.disable()
    try:
        for frame_index in range(0, FRAMES, 4):
            shown = cursor.get(frame_index)
            assert shown is not None
            Orientations.of(shown[1])
        groups = FRAMES // 10  # side data is read once a group at most
        assert frames() - before <= groups + 8
    finally:
        gc.enable()
        cursor.close()
        os.close(descriptor)
