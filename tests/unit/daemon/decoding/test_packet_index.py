"""The packet index: order of presentation, where decoding starts, and the form that crosses the socket."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.decoding.index_block import TIMES_BYTES, from_block, times_of, to_block
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

    again, times = from_block(to_block(index)), times_of(to_block(index), len(pts), keyframes=True)

    assert again.time_base == index.time_base
    assert again.counted == counted
    assert again.duration_ns == index.duration_ns == times.duration_ns
    np.testing.assert_array_equal(again.pts_ns, index.pts_ns)
    np.testing.assert_array_equal(again.order, index.order)
    np.testing.assert_array_equal(times.pts_ns, index.pts_ns)
    assert times.keyframes is not None
    assert times.keyframes.all()


TICKS = st.integers(-(2**63), 2**63 - 1)  # what a container may say of packets, the smallest being no time at all


@given(st.data(), st.lists(st.integers(0, 10**6), min_size=1, max_size=60, unique=True))
def test_every_packet_survives_the_way_to_a_child(data: st.DataObject, shown_at: list[int]) -> None:
    packets = [(pts, data.draw(TICKS), data.draw(st.sampled_from([SHOWN, SHOWN | KEY]))) for pts in shown_at]
    hidden = data.draw(st.lists(st.tuples(TICKS, TICKS, st.sampled_from([0, KEY])), max_size=10))
    packets = data.draw(st.permutations(packets + hidden))
    pts, dts = (np.array([packet[column] for packet in packets], np.int64) for column in (0, 1))
    index = PacketIndex(Fraction(1, 15360), pts, dts, np.array([flags for *_, flags in packets], np.uint8), 256)

    block = to_block(index)
    again, times = from_block(block), times_of(block, len(packets), keyframes=True)

    for column in ("pts", "dts", "flags", "order", "sorted_pts", "keys"):
        np.testing.assert_array_equal(getattr(again, column), getattr(index, column))
    np.testing.assert_array_equal(times.pts_ns, index.pts_ns)
    assert times.keyframes is not None
    np.testing.assert_array_equal(times.keyframes, index.keyframes)
    assert times.duration_ns == index.duration_ns


def even(frames: int, *, reordered: bool = False, jitter: int = 0) -> PacketIndex:
    """Return the index of a clip at 60 frames a second, whose B frames are decoded after what they refer to."""
    ticks = np.arange(frames, dtype=np.int64) * 256
    pts = ticks + np.resize([0, 512, -256, -256], frames) if reordered else ticks
    pts = pts + np.random.default_rng(1).integers(0, jitter + 1, frames) if jitter else pts
    flags = np.full(frames, SHOWN, np.uint8)
    flags[::48] |= KEY
    return PacketIndex(Fraction(1, 15360), pts, ticks - 512 if reordered else pts, flags, 256)


@pytest.mark.parametrize(
    ("index", "most"),
    [(even(200_000), 1), (even(200_000, reordered=True), 3), (even(200_000, jitter=200), 3)],
    ids=["even", "with B frames", "at an uneven rate"],
)
def test_an_index_takes_few_bytes_a_packet(index: PacketIndex, most: int) -> None:
    block = to_block(index)

    tracemalloc.start()
    times = times_of(block, len(index), keyframes=True)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    pieces = 8 * 8 * 2**16  # of bounded size, however long the clip is
    assert len(block) <= most * len(index) + 200
    assert len(times) == len(index)
    assert kept <= TIMES_BYTES * len(index) + 2**16
    assert peak <= TIMES_BYTES * len(index) + pieces


@given(st.integers(0, 90_000 * 86_400), st.sampled_from([1, 1000, 15360, 90_000, 1_000_000]))
def test_ticks_become_exact_nanoseconds(ticks: int, clock: int) -> None:
    assert int(ticks_to_ns(np.array([ticks]), Fraction(1, clock))[0]) == ticks * 10**9 // clock


@pytest.mark.parametrize("block", [b"", b"\0\0\0\0", b"\xff\xff\xff\x7f{}", to_block(index_of((0, "K")))[:-1]])
def test_nonsense_from_a_child_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        from_block(block)
    with pytest.raises(ValueError, match="bytes"):
        times_of(block, 1, keyframes=False)


def test_impossible_indices_are_refused() -> None:
    with pytest.raises(ValueError, match="same time stamp"):
        index_of((0, "K"), (0, ""))
    with pytest.raises(ValueError, match="0 frames"):
        index_of((0, "KD"))
