"""Windows and sample times: the arithmetic, by example and by property."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from daemon.windows import (
    NS_PER_S,
    Cut,
    FramePolicy,
    FrameSet,
    Window,
    WindowPolicy,
    frames_on_screen,
    plan_windows,
    sample_times,
)
from tests.unit.daemon.times import seconds


def spans_of(cut: Cut) -> list[tuple[int, int]]:
    return [cut.span(index) for index in range(cut.count)]


@given(
    st.lists(st.integers(1, 9 * NS_PER_S), max_size=60),
    st.integers(0, 200 * NS_PER_S),
    st.integers(1, 20 * NS_PER_S),
    st.sampled_from(["time", "neva"]),
    st.lists(st.booleans(), min_size=61, max_size=61),
    st.booleans(),
)
def test_a_clip_with_a_span_has_that_window_and_shows_no_frame_from_elsewhere(
    steps: list[int], start_ns: int, length_ns: int, rule: str, keys: list[bool], snaps: bool
) -> None:
    pts_ns = np.cumsum([0, *steps]).astype(np.int64)
    span = start_ns, start_ns + length_ns
    inside = [int(i) for i in np.flatnonzero((pts_ns >= span[0]) & (pts_ns < span[1]))]
    frames = FramePolicy(rule=rule, num_frames=5, snap="keyframe" if snaps else "exact")  # type: ignore[arg-type]
    keyframes = np.array([True, *keys][: len(pts_ns)])
    planned = plan_windows(pts_ns, int(pts_ns[-1]) + 1, WindowPolicy(), frames, keyframes, span)

    assert (len(planned), planned.span(0)) == (1, span)
    if not inside:
        with pytest.raises(ValueError, match="no frame lies in"):
            planned[0]
        return
    (window,) = planned
    assert (window.index, window.start_ns, window.exclusive_end_ns) == (0, *span)
    assert set(window.frame_indices) <= set(inside)
    if snaps and (own := [i for i in inside if keyframes[i]]):
        assert set(window.frame_indices) <= set(own)


@st.composite
def clips(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Time stamps of a clip with any steps, and its duration."""
    steps = draw(st.lists(st.integers(1, 9 * NS_PER_S), max_size=60))
    pts_ns = np.cumsum([0, *steps]).astype(np.int64)
    return pts_ns, int(pts_ns[-1]) + draw(st.integers(1, 9 * NS_PER_S))


@st.composite
def policies(draw: st.DrawFn) -> WindowPolicy:
    window_ns = draw(st.integers(NS_PER_S // 2, 20 * NS_PER_S))
    stride_ns = draw(st.integers(window_ns // 8, window_ns))
    return WindowPolicy(window_ns, stride_ns, draw(st.integers(0, window_ns)), whole=draw(st.booleans()))


frame_policies = st.builds(
    FramePolicy,
    rule=st.sampled_from(["time", "neva"]),
    num_frames=st.integers(1, 20),
    splice=st.sampled_from([None, None, "first", "middle", "last"]),
)


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (4, [(0, 4)]),
        (10, [(0, 10)]),
        (14.9, [(0, 14.9)]),  # a tail of 4.9 s is merged
        (15, [(0, 10), (10, 15)]),
        (20, [(0, 10), (10, 20)]),
        (24, [(0, 10), (10, 24)]),
    ],
)
def test_a_short_tail_is_merged(duration_s: float, expected: list[tuple[float, float]]) -> None:
    spans = spans_of(Cut.of(round(duration_s * NS_PER_S), WindowPolicy()))

    assert spans == [(round(a * NS_PER_S), round(b * NS_PER_S)) for a, b in expected]


def test_sample_times_lie_in_the_middle_of_their_shares() -> None:
    assert sample_times(0, 8, 4) == (1, 3, 5, 7)
    assert sample_times(10 * NS_PER_S, 20 * NS_PER_S, 1) == (15 * NS_PER_S,)


@given(clips(), policies())
def test_windows_cover_the_clip_in_order(clip: tuple[np.ndarray, int], policy: WindowPolicy) -> None:
    spans = spans_of(Cut.of(clip[1], policy))

    assert spans[0][0] == 0
    assert spans[-1][1] == clip[1]
    for (start, end), (next_start, next_end) in itertools.pairwise(spans):
        assert start < next_start <= end < next_end
    if not policy.whole:
        assert [start for start, _ in spans] == [k * policy.stride_ns for k in range(len(spans))]
        assert all(end - start == policy.window_ns for start, end in spans[:-1])
        assert len(spans) == 1 or spans[-1][1] - spans[-1][0] >= min(policy.min_tail_ns, policy.window_ns)


@given(clips(), policies(), frame_policies)
def test_every_window_shows_what_was_asked_for(
    clip: tuple[np.ndarray, int], windows: WindowPolicy, frames: FramePolicy
) -> None:
    pts_ns, duration_ns = clip

    planned = plan_windows(pts_ns, duration_ns, windows, frames)

    assert [window.index for window in planned] == list(range(len(planned)))
    for window in planned:
        assert len(window.frame_indices) == frames.frames_in(window.exclusive_end_ns - window.start_ns)
        assert all(window.start_ns <= t < window.exclusive_end_ns for t in window.sample_ns)
        assert list(window.frame_indices) == sorted(window.frame_indices)
        assert window.distinct_frames == len(set(window.frame_indices))
        for at, number in zip(window.sample_ns, window.frame_indices, strict=True):
            assert pts_ns[number] <= at
            assert number + 1 == len(pts_ns) or pts_ns[number + 1] > at


@given(st.integers(0, 10**15), st.integers(1, 10**13), st.integers(1, 200))
def test_sample_times_are_symmetric_and_inside(start_ns: int, length_ns: int, count: int) -> None:
    times = sample_times(start_ns, start_ns + length_ns, count)

    assert list(times) == sorted(times)
    assert start_ns <= times[0]
    assert times[-1] < start_ns + length_ns
    for early, late in zip(times, reversed(times), strict=True):
        assert abs((early - start_ns) - (start_ns + length_ns - late)) <= 1


@given(clips(), st.lists(st.integers(-NS_PER_S, 10**12), min_size=1, max_size=20))
def test_the_frame_on_screen_is_the_last_one_before(clip: tuple[np.ndarray, int], times: list[int]) -> None:
    for time, number in zip(times, frames_on_screen(clip[0], tuple(times)), strict=True):
        earlier = [k for k, pts in enumerate(clip[0]) if pts <= time]
        assert number == (earlier[-1] if earlier else 0)


@given(clips(), policies(), st.data())
def test_snapping_shows_key_frames_alone(
    clip: tuple[np.ndarray, int], windows: WindowPolicy, data: st.DataObject
) -> None:
    pts_ns, duration_ns = clip
    keys = np.array(data.draw(st.lists(st.booleans(), min_size=len(pts_ns), max_size=len(pts_ns))), bool)
    assume(keys.any())

    exact = plan_windows(pts_ns, duration_ns, windows, FramePolicy(num_frames=4))
    snapped = plan_windows(pts_ns, duration_ns, windows, FramePolicy(num_frames=4, snap="keyframe"), keys)

    first_key = int(np.argmax(keys))
    for asked, got in zip(exact, snapped, strict=True):
        assert asked.sample_ns == got.sample_ns
        for wanted, number in zip(asked.frame_indices, got.frame_indices, strict=True):
            assert keys[number]
            assert number <= wanted or number == first_key
            assert not keys[number + 1 : wanted + 1].any()


def test_a_clip_without_key_frames_snaps_to_its_first_frame() -> None:
    pts_ns = seconds(0, 1, 2)

    (window,) = plan_windows(
        pts_ns, 3 * NS_PER_S, WindowPolicy(), FramePolicy(num_frames=2, snap="keyframe"), pts_ns < 0
    )

    assert window.frame_indices == (0, 0)


def test_frames_a_second_are_clamped() -> None:
    policy = FramePolicy(fps=2.0, min_frames=4, max_frames=16)

    assert [policy.frames_in(round(s * NS_PER_S)) for s in (0.1, 2, 5, 60)] == [4, 4, 10, 16]


@pytest.mark.parametrize(
    ("pts_ns", "duration_ns"), [(seconds(), 1), (seconds(1, 2), 3 * NS_PER_S), (seconds(0, 1), NS_PER_S)]
)
def test_impossible_clips_are_refused(pts_ns: np.ndarray, duration_ns: int) -> None:
    with pytest.raises(ValueError, match="time stamps"):
        plan_windows(pts_ns, duration_ns, WindowPolicy(), FramePolicy())


def test_other_pixels_of_a_window_lie_in_no_memory_file() -> None:
    window = Window(0, 0, 10, (0, 5), (0, 1))
    shown = FrameSet(window, np.zeros((2, 4, 6, 3), np.uint8), (0, 5), substituted=1, memory_file=7)

    other = shown.with_pixels(np.ones((2, 2, 2, 3), np.uint8))

    assert (other.memory_file, other.substituted, other.pts_ns) == (-1, 1, (0, 5))
    assert other.frames.min() == 1
    assert not other.frames.flags.writeable


def test_frame_sets_are_read_only_and_never_printed() -> None:
    window = Window(0, 0, NS_PER_S, (1, 2), (0, 0))
    frame_set = FrameSet(window, np.zeros((2, 4, 6, 3), np.uint8), (0, 0))

    assert repr(frame_set).endswith("frames=uint8[2, 4, 6, 3])")
    with pytest.raises(ValueError, match="read-only"):
        frame_set.frames[0, 0, 0, 0] = 1
    with pytest.raises(ValueError, match="samples"):
        FrameSet(window, np.zeros((1, 4, 6, 3), np.uint8), (0,))
    with pytest.raises(ValueError, match="uint8"):
        FrameSet(window, np.zeros((2, 4, 6, 3), np.float32), (0, 0))  # type: ignore[arg-type]


def test_what_came_later_changes_a_policys_text_only_where_it_says_something() -> None:
    before = (
        "FramePolicy(rule='time', num_frames=8, fps=None, min_frames=4, max_frames=64, splice=None, snap='exact'"  # 0.1
    )

    assert repr(FramePolicy()) == f"{before})"
    assert repr(FramePolicy(background="black")) == f"{before}, background='black')"
    assert repr(FramePolicy(tone_map="none")) == f"{before}, tone_map='none')"


def test_windows_are_worked_out_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[tuple[int, int]] = []

    def choose(pts_ns: np.ndarray, span: tuple[int, int], policy: FramePolicy) -> tuple[tuple[int, ...], list[int]]:
        chosen.append(span)
        return (span[0],), [0]

    monkeypatch.setattr("daemon.windows._choose", choose)
    planned = plan_windows(seconds(0, 86_399), 86_400 * NS_PER_S, WindowPolicy(NS_PER_S, NS_PER_S, 0), FramePolicy())

    assert (len(planned), planned.most_frames, planned.span(86_399)[1], chosen) == (86_400, 8, 86_400 * NS_PER_S, [])
    assert planned[5] is planned[5]
    assert planned[-1].index == 86_399
    assert [window.index for window in planned[10:13]] == [10, 11, 12]
    assert len(chosen) == 5
    assert [window.index for window in planned.up_to(3)] == [0, 1, 2]
    with pytest.raises(IndexError):
        planned.up_to(3)[3]


@given(clips(), policies(), frame_policies)
def test_the_most_frames_of_a_window_are_known_before(
    clip: tuple[np.ndarray, int], windows: WindowPolicy, frames: FramePolicy
) -> None:
    planned = plan_windows(*clip, windows, frames)

    assert planned.most_frames == max(len(window.frame_indices) for window in planned)
