"""NeVA's frame rule: the arithmetic, by example and by property."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.windows import (
    NS_PER_S,
    FramePolicy,
    WindowPolicy,
    neva_frame_indices,
    plan_windows,
)
from tests.unit.daemon.times import seconds


@pytest.mark.parametrize(
    ("length", "num_frames", "expected"),
    [
        (300, 8, [0, 42, 85, 128, 170, 213, 256, 299]),
        (299, 8, [0, 42, 85, 127, 170, 212, 255, 298]),
        (100, 8, [0, 14, 28, 42, 56, 70, 84, 99]),
        (30, 8, [0, 4, 8, 12, 16, 20, 24, 29]),
        (9, 8, [0, 1, 2, 3, 4, 5, 6, 8]),
        (150, 4, [0, 49, 99, 149]),
        (7, 8, [0, 1, 2, 3, 4, 5, 6, 6]),
        (1, 8, [0] * 8),
        (300, 1, [0]),
        (5, -1, [0, 1, 2, 3, 4]),
    ],
)
def test_nevas_golden_indices(length: int, num_frames: int, expected: list[int]) -> None:
    assert neva_frame_indices(length, num_frames) == expected


@pytest.mark.parametrize(("splice", "expected"), [("first", 0), ("middle", 15), ("last", 29)])
def test_nevas_single_frames(splice: str, expected: int) -> None:
    assert neva_frame_indices(30, 8, splice) == [expected]  # type: ignore[arg-type]


def test_neva_counts_frames_of_the_window_alone() -> None:
    pts_ns = np.arange(100, dtype=np.int64) * NS_PER_S // 10

    windows = plan_windows(pts_ns, 10 * NS_PER_S, WindowPolicy(3 * NS_PER_S, 3 * NS_PER_S, 0), FramePolicy("neva", 8))

    assert windows[1].frame_indices == tuple(30 + i for i in [0, 4, 8, 12, 16, 20, 24, 29])
    assert windows[3].frame_indices == tuple(90 + i for i in [0, 1, 2, 3, 5, 6, 7, 9])


def test_neva_shows_what_is_on_screen_through_a_gap() -> None:
    windows = plan_windows(
        seconds(0, 1, 9), 10 * NS_PER_S, WindowPolicy(3 * NS_PER_S, 3 * NS_PER_S, 0), FramePolicy("neva", 2)
    )

    assert [w.frame_indices for w in windows] == [(0, 1), (1, 1), (1, 1), (2, 2)]


@given(st.integers(1, 5000), st.integers(1, 64))
def test_nevas_rule_is_linspace_then_padding(length: int, num_frames: int) -> None:
    chosen = neva_frame_indices(length, num_frames)

    assert len(chosen) == num_frames
    assert chosen == sorted(chosen)
    assert chosen[0] == 0
    assert num_frames == 1 or chosen[-1] == length - 1
