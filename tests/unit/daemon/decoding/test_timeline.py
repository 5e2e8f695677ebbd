"""Times that packets do not state: jumps of the clock closed by ffmpeg's rule, missing stamps filled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.decoding.timeline import NO_TIME, Mended, Stamps, fill

FRAME, SECOND = 3600, 90_000


def stamps(dts: list[int], pts: list[int] | None = None, keys: list[int] | None = None) -> Stamps:
    is_key = np.isin(np.arange(len(dts)), keys or [0])
    shown = np.ones(len(dts), bool)
    return Stamps(np.array(pts or dts, np.int64), np.array(dts, np.int64), is_key, shown, FRAME, SECOND)


def closed(raw: Stamps) -> list[int]:
    clean = raw.without_strays()
    return clean.closed(*clean.jumps()).pts.tolist()


EVEN = [k * FRAME for k in range(8)]


@pytest.mark.parametrize(
    "jump",
    [-3 * SECOND, -1000 * SECOND, -2 * FRAME, 20 * SECOND, 7200 * SECOND, 2**33, -(2**33)],
    ids=["3 s back", "1000 s back", "a cut", "20 s ahead", "2 h ahead", "a wrap ahead", "a wrap back"],
)
def test_a_clock_that_jumps_goes_on_as_if_it_had_not(jump: int) -> None:
    raw = stamps(EVEN[:4] + [time + jump for time in EVEN[4:]])

    assert closed(raw) == EVEN


def test_a_pause_up_to_ten_seconds_is_a_pause() -> None:
    raw = stamps(EVEN[:4] + [time + 9 * SECOND for time in EVEN[4:]])

    assert closed(raw) == raw.pts.tolist()


def test_a_jump_between_packets_without_a_time_counts_them() -> None:
    dts = [0, NO_TIME, NO_TIME, NO_TIME, 50 * SECOND, NO_TIME]

    assert closed(stamps(dts))[4] == 4 * FRAME


def test_parts_that_reorder_differently_do_not_overlap() -> None:
    first = [2 * FRAME, 5 * FRAME, 3 * FRAME, 4 * FRAME]  # shown two frames after they are decoded
    second = [10 * FRAME - SECOND * 60 + k * FRAME for k in range(3)]
    raw = stamps([0, FRAME, 2 * FRAME, 3 * FRAME, *second], [*first, *second], [0, 4])

    times = closed(raw)

    assert times[:4] == first
    assert times[4:] == [6 * FRAME, 7 * FRAME, 8 * FRAME]


def test_a_single_stray_stamp_moves_nothing_after_it() -> None:
    raw = stamps([*EVEN[:3], 7200 * SECOND, *EVEN[4:]])

    assert closed(raw) == [*EVEN[:3], NO_TIME, *EVEN[4:]]


def test_a_joined_file_without_decoding_times_restarts_at_a_key_frame() -> None:
    raw = stamps([NO_TIME] * 8, [0, 40, 80, 120, 0, 40, 80, 120], [0, 4])
    raw = Stamps(raw.pts, raw.dts, raw.is_key, raw.is_shown, 40, 1000)

    places, steps = raw.restarts()

    assert raw.closed(places, steps).pts.tolist() == [0, 40, 80, 120, 160, 200, 240, 280]


@pytest.mark.parametrize(
    ("times", "slots", "right"),
    [
        ([10, NO_TIME, 12], [0, 1, 2], [10, 11, 12]),
        ([10, NO_TIME, NO_TIME, 40], [NO_TIME] * 4, [10, 20, 30, 40]),
        ([10, NO_TIME, NO_TIME, 40], [0, 1, 2, 30], [10, 11, 12, 40]),  # a gap stays where the packets have it
        ([NO_TIME, NO_TIME, 12], [NO_TIME] * 3, [10, 11, 12]),
        ([10, NO_TIME, NO_TIME], [NO_TIME] * 3, [10, 11, 12]),
        ([10, 11, 99, 12, 13], [NO_TIME] * 5, [10, 11, 12, 13, 14]),  # no room: each at least a tick later
        ([NO_TIME] * 3, [5, 3, 9], [3, 5, 9]),  # decoding times, sorted, where there are no others
    ],
)
def test_what_is_missing_comes_from_its_neighbours(times: list[int], slots: list[int], right: list[int]) -> None:
    filled, _ = fill(np.array(times, np.int64), np.array(slots, np.int64), 1)

    assert filled.tolist() == right


@given(
    st.lists(st.one_of(st.just(NO_TIME), st.integers(-(2**40), 2**40)), min_size=1, max_size=40),
    st.lists(st.one_of(st.just(NO_TIME), st.integers(-(2**40), 2**40)), min_size=40, max_size=40),
)
def test_whatever_the_stamps_are_times_rise(times: list[int], slots: list[int]) -> None:
    filled, count = fill(np.array(times, np.int64), np.array(slots[: len(times)], np.int64), 7)

    assert len(filled) == len(times)
    assert (np.diff(filled) > 0).all()
    assert 0 <= count <= len(times)


def test_what_was_mended_is_said_in_a_line_each() -> None:
    assert Mended().in_words() == []
    assert len(Mended(1, 2, 3, True, True, True).in_words()) == 6
