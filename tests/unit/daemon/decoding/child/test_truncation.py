"""Truncation by the containers' own tables, over every place at which a file may end."""

import os
from pathlib import Path

import numpy as np
import pytest

from daemon.decoding.child.pyav import open_video, table_end
from daemon.decoding.child.truncation import is_truncated
from daemon.decoding.media import MediaLimits
from tests.corpus.clips import Recipe, make

LIMITS = MediaLimits(8_912_896, 86_400.0)
FRONT = {"movflags": "faststart"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+global_sidx"}


def box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def with_samples_moved(data: bytes, by: int) -> bytes:
    """Return the file with its table of chunks as it is behind so many more bytes."""
    at = data.index(b"stco") + 8
    count = int.from_bytes(data[at : at + 4], "big")
    places = np.frombuffer(data[at + 4 : at + 4 + 4 * count], ">u4") + by
    return data[: at + 4] + places.astype(">u4").tobytes() + data[at + 4 + 4 * count :]


def says_truncated(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        container, stream = open_video(descriptor, LIMITS)
        with container:
            for _ in container.demux(stream):
                pass
            return is_truncated(descriptor, path.stat().st_size, table_end(stream))
    finally:
        os.close(descriptor)


def change(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return make(tmp_path / "whole", Recipe(container_options=FRONT)).path.read_bytes()


@pytest.mark.parametrize("trailer", [b"\xff" * 332, b"frea" * 100, box(b"uuid", bytes(40)), b"x"])
def test_what_lies_behind_the_last_box_is_no_cut(whole: bytes, trailer: bytes, tmp_path: Path) -> None:
    assert not says_truncated(change(tmp_path / "a.mp4", whole + trailer))


@pytest.mark.parametrize("kind", [b"uuid", b"free", b"wide", b"skip"])
@pytest.mark.parametrize("share", [0.6, 0.99])
def test_a_cut_is_found_whatever_comes_first(whole: bytes, kind: bytes, share: float, tmp_path: Path) -> None:
    front = box(kind, bytes(32))
    moved = front + with_samples_moved(whole, len(front))

    assert not says_truncated(change(tmp_path / "a.mp4", moved))
    assert says_truncated(change(tmp_path / "b.mp4", moved[: int(len(moved) * share)]))


@pytest.mark.parametrize("form", ["to the end", "64 bits"])
def test_data_to_the_end_or_of_a_64_bit_size_is_cut_where_a_sample_is(whole: bytes, form: str, tmp_path: Path) -> None:
    at = whole.index(b"mdat") - 4
    if form == "to the end":
        data = whole[:at] + bytes(4) + whole[at + 4 :]
    else:
        header = (1).to_bytes(4, "big") + b"mdat" + (len(whole) - at + 8).to_bytes(8, "big")
        data = with_samples_moved(whole[:at] + header + whole[at + 8 :], 8)

    assert not says_truncated(change(tmp_path / "a.mp4", data))
    assert says_truncated(change(tmp_path / "b.mp4", data[:-400]))


def test_a_box_that_promises_more_than_its_samples_need_is_whole(whole: bytes, tmp_path: Path) -> None:
    at = whole.index(b"mdat") - 4
    longer = (len(whole) - at + 5000).to_bytes(4, "big")
    assert not says_truncated(change(tmp_path / "a.mp4", whole[:at] + longer + whole[at + 4 :]))


def test_fragments_are_cut_inside_one_and_between_two_where_an_index_lists_them(tmp_path: Path) -> None:
    data = make(tmp_path / "f", Recipe(container_options=FRAGMENTS)).path.read_bytes()
    last = data.rindex(b"moof") - 4
    assert b"sidx" in data
    assert not says_truncated(change(tmp_path / "a.mp4", data))
    assert says_truncated(change(tmp_path / "b.mp4", data[: last + 600]))
    assert says_truncated(change(tmp_path / "c.mp4", data[:last]))


CODECS = {"mkv": "libx264", "avi": "mpeg4", "mxf": "mpeg2video", "flv": "flv"}


@pytest.mark.parametrize(("suffix", "codec"), CODECS.items())
def test_other_containers_state_their_end(suffix: str, codec: str, tmp_path: Path) -> None:
    size = (720, 576) if suffix == "mxf" else (256, 144)
    options = {} if suffix == "mkv" else {"g": "10"}
    clip = make(tmp_path / "clip", Recipe(codec, suffix, size=size, options=options))
    data = clip.path.read_bytes()

    assert not says_truncated(clip.path)
    assert not says_truncated(change(tmp_path / f"b.{suffix}", data + bytes(100)))
    assert says_truncated(change(tmp_path / f"c.{suffix}", data[: len(data) * 6 // 10]))


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_streams_may_end_anywhere(suffix: str, tmp_path: Path) -> None:
    clip = make(tmp_path / "clip", Recipe("mpeg2video", suffix, options={"g": "10"}))

    assert not says_truncated(change(clip.path, clip.path.read_bytes()[:30_000]))


def test_a_matroska_file_of_unknown_size_is_cut_where_its_seek_head_names_a_later_place(tmp_path: Path) -> None:
    data = make(tmp_path / "clip", Recipe(suffix="mkv")).path.read_bytes()
    at = data.index(b"\x18S\x80g") + 4
    unknown = data[:at] + b"\x01" + b"\xff" * 7 + data[at + 8 :]

    assert not says_truncated(change(tmp_path / "a.mkv", unknown))
    assert says_truncated(change(tmp_path / "b.mkv", unknown[: len(data) // 2]))
