"""The packet index: order of presentation, where decoding starts, and the form that crosses the socket."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.decoding.packet_index import KEY, SHOWN, PacketIndex, ticks_to_ns


def index_of(*packets: tuple[int, str], last: int = 1, base: Fraction = Fraction(1, 25)) -> PacketIndex:
    """Make an index of (time stamp, flags) in decoding order: K for a key frame, D for one that is not shown."""
    pts = np.array([pts for pts, _ in packets], np.int64)
    flags = np.array([KEY * ("K" in f) | SHOWN * ("D" not in f) for _, f in packets], np.uint8)
    return PacketIndex(base, pts, pts, flags, last)


def test_frames_are_numbered_in_order_of_presentation() -> None:
    index = index_of((10, "K"), (13, ""), (11, ""), (12, ""), (14, "K"))

    assert list(index.pts_ns) == [0, 40_000_000, 80_000_000, 120_000_000, 160_000_000]
    assert list(index.order) == [0, 2, 3, 1, 4]
    assert list(index.keyframes) == [True, False, False, False, True]
    assert index.duration_ns == 200_000_000
    assert [index.frame_at(pts) for pts in (9, 10, 12, 14, 15)] == [-1, 0, 2, 4, -1]


def test_a_frame_before_its_groups_key_frame_needs_the_group_before() -> None:
    index = index_of((0, "K"), (1, ""), (2, ""), (5, "K"), (3, ""), (4, ""), (6, ""))

    assert [index.decode_start(number) for number in range(7)] == [0, 0, 0, 0, 0, 3, 3]
    assert index.decode_start(6, steps_back=1) == 0
    assert index.decode_start(6, steps_back=5) == 0


def test_hidden_packets_have_no_number() -> None:
    index = index_of((-2, "KD"), (-1, "D"), (0, ""), (1, ""))

    assert len(index) == 2
    assert index.decode_start(0) == 0
    assert index.frame_at(-1) == -1


def test_time_can_start_later() -> None:
    index = index_of((0, ""), (1, ""), (5, "K"), (6, ""))

    later = index.without_start(2)

    assert list(later.pts_ns) == [0, 40_000_000]
    assert later.frame_at(1) == -1


@given(
    st.lists(st.integers(-(2**29), 2**29), min_size=1, max_size=40, unique=True),
    st.integers(1, 1000),
    st.integers(1000, 2**31 - 1),
    st.booleans(),
)
def test_it_survives_the_way_to_a_child(pts: list[int], numerator: int, denominator: int, counted: bool) -> None:
    ticks = np.array(pts, np.int64)
    flags = np.full(len(pts), KEY | SHOWN, np.uint8)
    index = PacketIndex(Fraction(numerator, denominator), ticks, ticks, flags, 7, counted)

    again = PacketIndex.from_bytes(index.to_bytes())

    assert again.time_base == index.time_base
    assert again.counted == counted
    assert again.duration_ns == index.duration_ns
    np.testing.assert_array_equal(again.pts_ns, index.pts_ns)
    np.testing.assert_array_equal(again.order, index.order)


@given(st.integers(0, 90_000 * 86_400), st.sampled_from([1, 1000, 15360, 90_000, 1_000_000]))
def test_ticks_become_exact_nanoseconds(ticks: int, clock: int) -> None:
    assert int(ticks_to_ns(np.array([ticks]), Fraction(1, clock))[0]) == ticks * 10**9 // clock


@pytest.mark.parametrize("block", [b"", b"\0\0\0\0", b"\xff\xff\xff\x7f{}", index_of((0, "K")).to_bytes()[:-1]])
def test_nonsense_from_a_child_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        PacketIndex.from_bytes(block)


def test_impossible_indices_are_refused() -> None:
    with pytest.raises(ValueError, match="same time stamp"):
        index_of((0, "K"), (0, ""))
    with pytest.raises(ValueError, match="0 frames"):
        index_of((0, "KD"))
