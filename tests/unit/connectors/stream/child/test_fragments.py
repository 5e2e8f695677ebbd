"""Packets of which a part came, written with others: they cost their own frames and no more."""

import pytest

from connectors.stream.child.packet import Away
from connectors.stream.child.pyav import fragment
from testing.cameras.encoded_frames import ENCODERS, Encoded, encoded, numbers_in

FRAMES = 12
SIZES = (0, 1, 3, 4, 5, 12, 30, 0.5)


# MPEG-2's decoder gives a frame with the next one's packet, and loses it with that
@pytest.fixture(scope="module", params=sorted({*ENCODERS} - {"mpeg2video"}))
def stream(request: pytest.FixtureRequest) -> Encoded:
    made: Encoded = encoded(request.param, FRAMES)
    return made


def shown_before(stream: Encoded, place: int) -> set[int]:
    """Return the numbers of the frames that are decoded before a packet."""
    begin_ns, step_ns = stream.packets[0][0], 40_000_000
    return {(at - begin_ns) // step_ns for at, _, _ in stream.packets[:place]}


def test_whole_packets_are_all_kept(stream: Encoded) -> None:
    assert fragment(stream.format, stream.packets, 2 * 10**9).kept == list(range(FRAMES))
    assert numbers_in(stream.recorded()) == list(range(FRAMES))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("last", [4, FRAMES - 1])
def test_a_last_packet_that_is_cut_costs_its_own_frame_alone(stream: Encoded, size: float, last: int) -> None:
    whole = stream.packets[last][1]
    cut = stream.cut(last, size if isinstance(size, int) else int(len(whole) * size))

    found = numbers_in(cut.recorded(0, last + 1))

    assert shown_before(stream, last) <= set(found)
    assert len(found) <= last + 1


@pytest.mark.parametrize("size", SIZES[:4])
def test_a_packet_cut_in_the_middle_costs_no_frame_before_it(stream: Encoded, size: int) -> None:
    found = numbers_in(stream.cut(5, size).recorded())

    assert shown_before(stream, 5) <= set(found)


def test_nothing_but_a_scrap_is_nothing() -> None:
    stream = encoded("av1", 2)
    (at, data, is_key), *_ = stream.packets

    with pytest.raises(Away):
        fragment(stream.format, [(at, data[:3], is_key)], at + 10**9)
