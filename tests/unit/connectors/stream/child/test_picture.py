"""What a key frame says of itself: its codec, in a stream that was of another, and its size."""

from itertools import product

import pytest

from connectors.stream.child.picture import START_CODED, codec_of, size_in
from testing.cameras.encoded_frames import ENCODERS, HEIGHT, WIDTH, encoded

KINDS = sorted(ENCODERS)


def key_frame(kind: str) -> bytes:
    data: bytes = encoded(kind, 2).packets[0][1]
    return data


@pytest.mark.parametrize(("before", "now"), [pair for pair in product(KINDS, KINDS) if " " not in pair[0] + pair[1]])
def test_a_key_frame_tells_its_codec(before: str, now: str) -> None:
    told_apart = before in START_CODED and now in START_CODED
    stale = b"\0\0\0\1\x09\xf0" if before == "h264" else b""  # what the demuxer held of the stream before

    assert codec_of(before, stale + key_frame(now)) == (now if told_apart else before)


@pytest.mark.parametrize("kind", ["h264", "hevc", "mpeg4", "mpeg2video"])
def test_other_frames_tell_none(kind: str) -> None:
    packets = encoded(kind, 12, gop=100).packets

    assert {codec_of(kind, data) for _, data, _ in packets} == {kind}


@pytest.mark.parametrize("kind", ["mjpeg", "vp9", "mpeg2video"])
def test_a_key_frame_tells_its_size(kind: str) -> None:
    whole = key_frame(kind)

    assert size_in(kind, whole) == (WIDTH, HEIGHT)
    for size in range(0, min(len(whole), 400)):
        assert size_in(kind, whole[:size]) in (None, (WIDTH, HEIGHT))
    assert size_in(kind, bytes(64)) is None
