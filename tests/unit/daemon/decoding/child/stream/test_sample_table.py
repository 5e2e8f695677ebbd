"""The sample table says what reading every packet says, or is left aside."""

import os
from pathlib import Path

import numpy as np
import pytest

from daemon.decoding.child import packets
from daemon.decoding.child.packets import PacketReader, Packets
from daemon.decoding.media import MediaLimits
from tests.corpus.clips import Recipe, make
from tests.unit.daemon.decoding.child.larger import bytes_read, larger_copy

LIMITS = MediaLimits(8_912_896, 86_400.0)
FRAMES = 520
RECIPES = {
    "B-frames": Recipe(frames=FRAMES, size=(64, 48)),
    "key frames alone": Recipe(frames=FRAMES, size=(64, 48), options={"g": "1", "bf": "0"}),
    "another rate after a while": Recipe(
        frames=FRAMES, size=(64, 48), clock=100, ticks=tuple(k * 4 + max(0, k - 200) * 3 for k in range(FRAMES))
    ),
    "the table in front": Recipe(frames=FRAMES, size=(64, 48), container_options={"movflags": "faststart"}),
}


def read(path: Path) -> Packets:
    descriptor = os.open(path, os.O_RDONLY)
    reader = PacketReader(descriptor, LIMITS, lambda: None)
    try:
        return reader.read()
    finally:
        reader.close()
        os.close(descriptor)


def read_by_packets(path: Path, monkeypatch: pytest.MonkeyPatch) -> Packets:
    with monkeypatch.context() as patched:
        patched.setattr(packets, "has_sample_table", lambda *_: False)
        return read(path)


def assert_same(found: Packets, expected: Packets) -> None:
    for name in ("pts", "dts", "flags"):
        np.testing.assert_array_equal(getattr(found.index, name), getattr(expected.index, name))
    assert found.index.last_ticks == expected.index.last_ticks
    facts = ("codec", "container", "width", "height", "declared_s", "truncated", "failure", "start_ns", "mended")
    assert [getattr(found, name) for name in facts] == [getattr(expected, name) for name in facts]


@pytest.fixture
def demuxed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clips whose packets were read."""
    seen: list[str] = []
    true = PacketReader._demux

    def demux(self: PacketReader, container: object, stream: object) -> None:
        seen.append("read")
        true(self, container, stream)

    monkeypatch.setattr(PacketReader, "_demux", demux)
    return seen


@pytest.mark.parametrize("name", RECIPES)
def test_a_table_is_what_its_packets_are(
    name: str, tmp_path: Path, demuxed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "clip", RECIPES[name]).path

    found = read(path)

    assert demuxed == []
    assert_same(found, read_by_packets(path, monkeypatch))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(frames=FRAMES, size=(64, 48), container_options={"movflags": "frag_keyframe+empty_moov"}),
        Recipe(frames=FRAMES, size=(64, 48), suffix="mkv"),
        Recipe(frames=60, size=(64, 48)),
    ],
    ids=["fragments", "no table", "a few packets"],
)
def test_other_clips_are_read(
    recipe: Recipe, tmp_path: Path, demuxed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "clip", recipe).path

    found = read(path)

    assert demuxed == ["read"]
    assert_same(found, read_by_packets(path, monkeypatch))


@pytest.mark.parametrize("ticks", [1024 + 512, 1024 + 5 * 512, 1024 + 100 * 512, 512])
def test_what_an_edit_leaves_out_is_left_out(ticks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(make(tmp_path / "clip", RECIPES["B-frames"]).path.read_bytes())
    place = data.rfind(b"elst") + 16  # the time in the media at which the only edit starts
    data[place : place + 4] = ticks.to_bytes(4, "big")
    edited = tmp_path / "edited.mp4"
    edited.write_bytes(data)

    assert_same(read(edited), read_by_packets(edited, monkeypatch))


def test_a_truncated_clip_is_read(tmp_path: Path, demuxed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(tmp_path / "clip", RECIPES["the table in front"]).path
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])

    found = read(cut)

    assert found.truncated
    assert demuxed == ["read"]
    assert_same(found, read_by_packets(cut, monkeypatch))


@pytest.mark.parametrize("box", [b"stts", b"ctts", b"stss", b"stsz"])
@pytest.mark.parametrize("at", [8, 12, 16, 20])
def test_a_damaged_table_says_what_its_packets_say(
    box: bytes, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(make(tmp_path / "clip", RECIPES["B-frames"]).path.read_bytes())
    place = data.rfind(box) + at
    data[place : place + 4] = b"\x00\x00\x03\x7f"
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)

    try:
        expected = read_by_packets(damaged, monkeypatch)
    except Exception as error:
        with pytest.raises(type(error)):
            read(damaged)
    else:
        assert_same(read(damaged), expected)


def test_a_table_needs_a_small_part_of_the_file(tmp_path: Path) -> None:
    path = larger_copy(make(tmp_path / "clip", RECIPES["B-frames"]).path, tmp_path / "large.mp4")
    before = bytes_read()

    read(path)

    assert bytes_read() - before < path.stat().st_size / 2
