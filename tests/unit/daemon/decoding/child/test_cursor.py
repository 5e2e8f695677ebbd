"""Decoding no more than is needed: no group twice while windows follow each other, none that no window needs."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from daemon.decoding.child.cursor import FrameCursor
from daemon.decoding.child.session import Session, plan
from daemon.decoding.media import MediaLimits
from daemon.frame_look import FrameSize
from daemon.windows import NS_PER_S, FramePolicy, Window, WindowPolicy, plan_windows
from tests.corpus.clips import Recipe, Truth, make
from tests.corpus.painted import HEIGHT, WIDTH, read

LIMITS = MediaLimits(8_912_896, 86_400.0)
FRAMES = 500


class CountingSession(Session):
    """A session that says how many frames its decoder gave, and can be asked for windows as the parent asks."""

    def decoded(self) -> int:
        return self._writer._cursor.decoded if self._writer is not None else 0  # type: ignore[attr-defined]

    def take(self, windows: tuple[Window, ...], at: int, together: int = 1) -> tuple[list[int], np.ndarray]:
        """Fill window ``at``; it and the next ones are opened, those that are not yet."""
        for window in windows[at : at + together]:
            if window.index not in self._windows and window.index >= self.opened:
                memory = os.memfd_create("test")
                os.ftruncate(memory, len(window.frame_indices) * WIDTH * HEIGHT * 3)
                self.add(window.index, memory, list(window.frame_indices))
                self.opened = window.index + 1
        frames = self._windows[at].frames
        return self.fill(at, [n for w in windows[at : at + 6] for n in w.frame_indices]), frames

    opened = 0


@pytest.fixture(scope="module", params=[10, 50, 500])
def truth(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    options = {"g": str(request.param), "bf": "2", "x264-params": f"keyint={request.param}:scenecut=0"}
    return make(tmp_path_factory.mktemp("clips") / "clip", Recipe(frames=FRAMES, options=options))


@pytest.fixture
def session(truth: Truth) -> Iterator[CountingSession]:
    descriptor = os.open(truth.path, os.O_RDONLY)
    _, index = plan(descriptor, LIMITS, lambda: None)
    opened = CountingSession(descriptor, "av", index, FrameSize(WIDTH, HEIGHT), LIMITS)
    opened.index_of_clip = index  # type: ignore[attr-defined]
    yield opened
    opened.close()


def windows_of(session: CountingSession, policy: WindowPolicy, count: int = 8) -> tuple[Window, ...]:
    index = session.index_of_clip  # type: ignore[attr-defined]
    return plan_windows(index.pts_ns, index.duration_ns, policy, FramePolicy(num_frames=count))


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
            cursor.orientation(shown[1])
        groups = FRAMES // 10  # side data is read once a group at most
        assert frames() - before <= groups + 8
    finally:
        gc.enable()
        cursor.close()
        os.close(descriptor)
