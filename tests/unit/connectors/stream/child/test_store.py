"""A recorder's folder: within its bound, whole after a crash, and with each loss in the index."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.stream.child.packet import StreamFormat
from connectors.stream.child.store import Store
from connectors.stream.index import INDEX, RELEASED, Absence, Contents, Link, Segment, decode_line, encode_line

FORMAT = StreamFormat("h264", 256, 144, b"sets")
SECOND_NS = 10**9
DATA = b"x" * 1000


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def opened(folder: int, max_bytes: int = 10**6) -> Store:
    store = Store(folder, max_bytes)
    store.open()
    return store


def segment(second: int, *, key: bool = True) -> Segment:
    start_ns = second * SECOND_NS
    key_ns = start_ns if key else None
    return Segment(f"{second:020d}.m4s", "", start_ns, start_ns + SECOND_NS, "sender", 0, key_ns, 0, start_ns, 25)


def fill(store: Store, seconds: range) -> None:
    for second in seconds:
        store.add(FORMAT, b"header", segment(second), DATA)


def said(path: Path) -> Contents:
    contents = Contents()
    for text in (path / INDEX).read_bytes().splitlines():
        if (line := decode_line(text)) is not None:
            contents.add(line)
    return contents


def seconds(contents: Contents) -> list[int]:
    return [one.start_ns // SECOND_NS for one in contents.segments]


def test_what_was_recorded_is_read_back(folder: int, tmp_path: Path) -> None:
    fill(opened(folder), range(1, 4))

    again = opened(folder)

    assert seconds(again.contents) == [1, 2, 3]
    assert again.contents.latest_ns == 4 * SECOND_NS
    assert again.bytes == 3 * len(DATA)


def test_half_a_line_is_cut_and_the_index_goes_on(folder: int, tmp_path: Path) -> None:
    fill(opened(folder), range(1, 4))
    with (tmp_path / INDEX).open("ab") as file:
        file.write(encode_line(segment(9))[:-20])

    fill(opened(folder), range(4, 5))

    assert seconds(said(tmp_path)) == [1, 2, 3, 4]


def test_a_segment_that_is_not_whole_is_dropped_and_said(folder: int, tmp_path: Path) -> None:
    fill(opened(folder), range(1, 4))
    with (tmp_path / segment(2).file).open("ab") as file:
        file.truncate(10)

    again = opened(folder)

    assert seconds(again.contents) == [1, 3]
    assert Absence(2 * SECOND_NS, 3 * SECOND_NS, "discarded") in said(tmp_path).missing


def test_a_segment_that_the_index_does_not_name_goes(folder: int, tmp_path: Path) -> None:
    fill(opened(folder), range(1, 3))
    (tmp_path / "00000000000000000009.m4s").write_bytes(DATA)
    (tmp_path / ".00000000000000000010.m4s").write_bytes(DATA)

    opened(folder)

    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".m4s", ".m4s", ".mp4"]


def test_the_oldest_is_thrown_away_within_the_bound_and_that_is_said(folder: int, tmp_path: Path) -> None:
    fill(opened(folder, max_bytes=3500), range(1, 11))

    contents = said(tmp_path)
    assert seconds(contents) == [8, 9, 10]
    assert contents.missing == [Absence(SECOND_NS, 8 * SECOND_NS, "discarded")]
    assert sum(path.stat().st_size for path in tmp_path.glob("*.m4s")) <= 3500


def test_what_has_its_messages_is_deleted_and_is_no_loss(folder: int, tmp_path: Path) -> None:
    store = opened(folder)
    fill(store, range(1, 6))
    (tmp_path / RELEASED).write_text(str(4 * SECOND_NS))

    store.tidy()

    assert seconds(store.contents) == [4, 5]
    assert said(tmp_path).missing == []
    assert len(list(tmp_path.glob("*.m4s"))) == 2


def test_a_released_time_keeps_the_key_frame_before_it(folder: int, tmp_path: Path) -> None:
    store = opened(folder)
    fill(store, range(1, 3))
    store.add(FORMAT, b"header", segment(3, key=False), DATA)
    (tmp_path / RELEASED).write_text(str(3 * SECOND_NS))

    store.tidy()

    assert seconds(store.contents) == [2, 3]


def test_a_full_disk_is_survived_and_accounted_for(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(folder)
    fill(store, range(1, 3))
    write, pwrite = os.write, os.pwrite

    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(os, "pwrite", full)
    fill(store, range(3, 6))
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "pwrite", pwrite)
    fill(store, range(6, 8))

    contents = said(tmp_path)
    assert seconds(contents) == [1, 2, 6, 7]
    assert contents.missing == [Absence(3 * SECOND_NS, 6 * SECOND_NS, "discarded")]
    assert seconds(opened(folder).contents) == [1, 2, 6, 7]


def test_a_disk_that_fills_in_the_middle_of_a_line_leaves_no_half_of_it(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(folder)
    fill(store, range(1, 2))
    pwrite = os.pwrite
    left = [10]

    def filling(file: int, data: bytes, at: int) -> int:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(file, data[: left.pop()], at)

    monkeypatch.setattr(os, "pwrite", filling)
    store.say(Link(1, True))
    monkeypatch.setattr(os, "pwrite", pwrite)
    store.say(Link(2, False, "ended"))

    assert said(tmp_path).link == Link(2, False, "ended")
    assert all(decode_line(line) is not None for line in (tmp_path / INDEX).read_bytes().splitlines())


def test_a_long_index_is_written_anew_with_what_counts(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.stream.child.store._LONG_INDEX", 5_000)
    store = opened(folder)
    fill(store, range(1, 5))
    for second in range(5, 1000):
        store.say(Absence(second * SECOND_NS, (second + 1) * SECOND_NS, "away"))

    assert (tmp_path / INDEX).stat().st_size < 10_000
    assert seconds(said(tmp_path)) == [1, 2, 3, 4]
    assert said(tmp_path).missing == [Absence(5 * SECOND_NS, 1000 * SECOND_NS, "away")]


def test_files_are_this_users_alone(folder: int, tmp_path: Path) -> None:
    fill(opened(folder), range(1, 3))

    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
