"""What the page shows, on disk: back after a restart, bounded, and no harm where it can't be written or read."""

from pathlib import Path

import pytest

from daemon.feed.recent import Feed
from daemon.feed.shelf import Shelf
from tests.page.showing import captions, clip, frames

NAME = "od\udcffd/<b>.mp4"  # bytes that are no text


def filled(count: int, keep: int = 1000) -> Feed:
    feed = Feed(keep)
    for index in range(count):
        feed.saw(clip(NAME), frames(index, size=(9, 16)))
        feed.published(captions(clip(NAME), f"{index}", first=index))
    return feed


def test_it_comes_back(tmp_path: Path) -> None:
    feed = filled(3)
    Shelf(tmp_path / "page", 10).append(list(feed.after(0)))

    back = Shelf(tmp_path / "page", 10).load()

    assert [(one.message, one.name, one.strip, one.at_ms) for one in back] == [
        (one.message, one.name, one.strip, one.at_ms) for one in list(feed.after(0))
    ]


def test_the_disk_is_bounded(tmp_path: Path) -> None:
    for _ in range(3):
        shelf = Shelf(tmp_path, 8)
        shelf.load()
        for entry in list(filled(20).after(0)):
            shelf.append([entry])

    lines = sum(file.read_bytes().count(b"\n") for file in tmp_path.iterdir())
    assert 8 <= lines <= 10
    assert len(list(tmp_path.iterdir())) <= 5
    assert len(Shelf(tmp_path, 8).load()) == 8


def test_what_cant_be_read_is_left_out(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 10)
    shelf.load()
    shelf.append(list(filled(2).after(0)))
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(b'{"half": \n[]\n\xff\nnull\n{"at_ms": 1}\n' + whole + whole[: len(whole) // 4])
    (tmp_path / "notes.jsonl").write_text("mine\n")

    assert len(Shelf(tmp_path, 10).load()) == 2


def test_a_disk_that_takes_nothing_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "page").write_text("a file is in the way")
    shelf = Shelf(tmp_path / "page", 10)

    assert shelf.load() == []
    shelf.append(list(filled(1).after(0)))
    shelf.append(list(filled(1).after(0)))

    assert [record.message for record in caplog.records] == ["What the page shows is not kept on disk: File exists."]


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "page", 10)
    shelf.load()
    shelf.append(list(filled(1).after(0)))

    assert (tmp_path / "page").stat().st_mode & 0o077 == 0
    assert next((tmp_path / "page").iterdir()).stat().st_mode & 0o077 == 0
