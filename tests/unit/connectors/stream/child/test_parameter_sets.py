"""Parameter sets: found in front of a picture, put there where they are apart, and start codes instead of lengths."""

import pytest

from connectors.stream.child.parameter_sets import LengthPrefixed, parameter_sets, with_sets

START = b"\0\0\0\1"
SPS, PPS, SLICE = b"\x67sps", b"\x68pps", b"\x65slice"
SETS = START + SPS + START + PPS
OF_HEVC = [b"\x40\1vps", b"\x42\1sps", b"\x44\1pps"]


def test_those_in_front_of_a_picture_are_found() -> None:
    assert parameter_sets("h264", SETS + START + SLICE) == SETS
    assert parameter_sets("h264", START + b"\x09\xf0" + START + SPS + b"\0\0\1" + PPS + START + SLICE) == SETS
    assert parameter_sets("hevc", b"".join(START + one for one in [*OF_HEVC, b"\x26\1slice"])) == b"".join(
        START + one for one in OF_HEVC
    )


@pytest.mark.parametrize("data", [b"", START + SLICE, START + SPS + START + SLICE, SLICE, START + SLICE + SETS])
def test_half_of_them_or_those_behind_the_picture_are_none(data: bytes) -> None:
    assert parameter_sets("h264", data) == b""


def test_a_segment_begins_with_them() -> None:
    assert with_sets("h264", SETS, START + SLICE) == SETS + START + SLICE
    assert with_sets("h264", SETS, SETS + START + SLICE) == SETS + START + SLICE
    assert with_sets("mjpeg", b"", b"\xff\xd8") == b"\xff\xd8"


def test_lengths_become_start_codes() -> None:
    avcc = b"\1\x64\0\x1f\xff\xe1" + b"\0\4" + SPS + b"\1" + b"\0\4" + PPS
    units = LengthPrefixed.of("h264", avcc)

    assert units is not None
    assert units.parameter_sets == SETS
    assert units.start_coded(b"\0\0\0\6" + SLICE + b"\0\0\0\4" + SPS) == START + SLICE + START + SPS
    assert units.start_coded(b"\0\0\xff\xff" + SLICE) == START + SLICE  # cut where the packet ends
    assert LengthPrefixed.of("h264", SETS) is None
    assert LengthPrefixed.of("av1", avcc) is None


def test_those_of_hevc_are_read_from_their_arrays() -> None:
    arrays = b"".join(
        bytes([kind]) + b"\0\1" + len(unit).to_bytes(2, "big") + unit for kind, unit in enumerate(OF_HEVC)
    )  # fmt: skip
    units = LengthPrefixed.of("hevc", b"\1" + b"\0" * 20 + b"\xff" + b"\3" + arrays)

    assert units is not None
    assert units.parameter_sets == b"".join(START + unit for unit in OF_HEVC)


@pytest.mark.parametrize("length", range(40))
def test_damaged_ones_do_no_harm(length: int) -> None:
    for codec in ("h264", "hevc"):
        LengthPrefixed.of(codec, (b"\1" + b"\xff" * 40)[:length])
