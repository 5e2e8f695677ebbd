"""The scan of a folder: which files are clips, and when they are whole."""

import os
import time
from pathlib import Path

import pytest

from connectors.folder.patterns import fits_pattern
from connectors.folder.scan import FolderScan
from tests.contract.folder_harness import put_file

NOW_S = 1_700_000_000.0


class Clocks:
    """A clock that a test moves. The file system's time stamps are the test's own."""

    def __init__(self) -> None:
        self.monotonic = 100.0

    def advance(self, seconds: float) -> None:
        self.monotonic += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def scan_of(root: Path, clocks: Clocks, pattern: str = "**/*", settle_s: float = 2.0) -> FolderScan:
    return FolderScan(root, pattern, settle_s, monotonic_s=lambda: clocks.monotonic)


def write(path: Path, content: bytes, at_s: float) -> None:
    path.write_bytes(content)
    os.utime(path, (at_s, at_s))


def names(scan: FolderScan) -> list[str]:
    return ["/".join(parts) for parts in scan.whole_files()]


def names_once_settled(scan: FolderScan, clocks: Clocks) -> list[str]:
    assert names(scan) == []
    clocks.advance(2)
    return names(scan)


@pytest.mark.parametrize(
    ("pattern", "fits", "misses"),
    [
        ("**/*", ["a", "a/b", "a/b/c.mp4"], []),
        ("**", ["a", "a/b"], []),
        ("*", ["a", "a.mp4"], ["a/b"]),
        ("*.mp4", ["a.mp4"], ["a.MP4", "a.mp4.x", "d/a.mp4"]),
        ("**/*.mp4", ["a.mp4", "d/a.mp4", "d/e/a.mp4"], ["a.mkv", "mp4"]),
        ("cam?/**/*.mp4", ["cam1/a.mp4", "cam1/x/y/a.mp4"], ["cam12/a.mp4", "a.mp4"]),
        ("cam[12]/*", ["cam1/a", "cam2/a"], ["cam3/a", "cam1/a/b"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/x", "b"]),
    ],
)
def test_patterns(pattern: str, fits: list[str], misses: list[str]) -> None:
    assert [path for path in fits if not fits_pattern(path.split("/"), pattern.split("/"))] == []
    assert [path for path in misses if fits_pattern(path.split("/"), pattern.split("/"))] == []


def test_what_counts(tmp_path: Path, clocks: Clocks) -> None:
    for name in ("b.mp4", "a.mp4", "sub/c.mp4", "sub/work/d.mp4", "line\nend.mp4"):
        put_file(tmp_path, name)
    for name in (".hidden.mp4", ".dir/x.mp4", "x.tmp", "work/i/x.mp4", "done/x.mp4", "failed/x.mp4"):
        put_file(tmp_path, name)
    (tmp_path / "x.mp4.part").write_bytes(b"x")
    (tmp_path / "X.PART").write_bytes(b"x")
    (tmp_path / "folder.mp4").mkdir()

    assert names_once_settled(scan_of(tmp_path, clocks), clocks) == [
        "a.mp4",
        "b.mp4",
        "line\nend.mp4",
        "sub/c.mp4",
        "sub/work/d.mp4",
    ]


def test_links_are_found_and_not_followed(tmp_path: Path, clocks: Clocks) -> None:
    outside = tmp_path / "outside"
    put_file(outside, "x.mp4")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "file.mp4").symlink_to(outside / "x.mp4")
    (inbox / "folder").symlink_to(outside)
    (inbox / "nowhere").symlink_to("nothing")
    (inbox / "circle").symlink_to(".")

    assert names(scan_of(inbox, clocks)) == ["circle", "file.mp4", "folder", "nowhere"]


def test_other_kinds_of_files_are_left_and_said_once(
    tmp_path: Path, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    scan = scan_of(tmp_path, clocks)

    assert names(scan) == names(scan) == []
    assert [record.getMessage() for record in caplog.records] == [
        "pipe.mp4 is not a regular file: it is left where it is."
    ]


@pytest.mark.parametrize("ago_s", [0, 1.5, 600, 10**9, -600])
def test_a_file_counts_once_a_standstill_was_seen_however_old_its_time_is(
    tmp_path: Path, clocks: Clocks, ago_s: float
) -> None:
    write(tmp_path / "a", b"x", time.time() - ago_s)
    scan = scan_of(tmp_path, clocks)

    assert names(scan) == []
    assert scan.next_due_s == pytest.approx(2.0)
    clocks.advance(1.5)
    assert names(scan) == []
    assert scan.next_due_s == pytest.approx(0.5)
    clocks.advance(0.5)
    assert names(scan) == ["a"]
    assert scan.next_due_s is None
    assert names(scan_of(tmp_path, clocks)) == []  # after a restart it has to be seen again


@pytest.mark.parametrize("ago_s", [-600, 0, 10, 600])
def test_a_file_that_grows_does_not_count(tmp_path: Path, clocks: Clocks, ago_s: float) -> None:
    scan = scan_of(tmp_path, clocks)
    for size in range(1, 6):
        write(tmp_path / "a", b"x" * size, NOW_S - ago_s)
        assert names(scan) == []
        clocks.advance(1.9)
    assert names(scan) == []
    clocks.advance(0.1)
    assert names(scan) == ["a"]


def test_a_file_that_is_written_to_in_place_is_seen_by_its_change(tmp_path: Path, clocks: Clocks) -> None:
    """Neither size nor modification time move: a downloader that reserved the space, and sets the server's time."""
    scan = scan_of(tmp_path, clocks)
    for byte in range(4):
        write(tmp_path / "a", bytes([byte]) * 100, NOW_S)
        time.sleep(0.02)  # the kernel's tick
        assert names(scan) == []
        clocks.advance(1.9)
    clocks.advance(0.2)
    assert names(scan) == ["a"]


def test_a_file_that_grows_under_an_old_time_is_seen_by_its_size(tmp_path: Path, clocks: Clocks) -> None:
    """A clock that is ahead: the time says nothing, standing still does."""
    scan = scan_of(tmp_path, clocks)
    for size in range(1, 4):
        write(tmp_path / "a", b"x" * size, NOW_S + 3600)
        assert names(scan) == []
        clocks.advance(1.9)
    clocks.advance(0.2)
    assert names(scan) == ["a"]


def test_a_file_in_the_place_of_another_starts_anew(tmp_path: Path, clocks: Clocks) -> None:
    scan = scan_of(tmp_path, clocks)
    write(tmp_path / "a", b"x", NOW_S + 3600)
    assert names(scan) == []
    clocks.advance(1.9)
    write(tmp_path / "b", b"x", NOW_S + 3600)
    (tmp_path / "b").rename(tmp_path / "a")
    clocks.advance(0.2)
    assert names(scan) == []
    clocks.advance(2)
    assert names(scan) == ["a"]


def test_the_scan_is_lazy(tmp_path: Path, clocks: Clocks) -> None:
    for number in range(50):
        put_file(tmp_path, f"{number:02d}")
    found = scan_of(tmp_path, clocks, settle_s=0).whole_files()

    assert next(found) == ("00",)
    for path in list(tmp_path.iterdir())[10:]:
        path.unlink()
    assert 0 < len(list(found)) < 20


def test_a_folder_that_goes_away_during_a_pass_is_passed_over(tmp_path: Path, clocks: Clocks) -> None:
    put_file(tmp_path, "a")
    put_file(tmp_path, "sub/b")
    put_file(tmp_path, "z/c")
    found = scan_of(tmp_path, clocks, settle_s=0).whole_files()
    assert next(found) == ("a",)
    (tmp_path / "sub/b").unlink()
    (tmp_path / "sub").rmdir()

    assert list(found) == [("z", "c")]


def test_a_missing_root_is_an_error(tmp_path: Path, clocks: Clocks) -> None:
    with pytest.raises(FileNotFoundError):
        names(scan_of(tmp_path / "missing", clocks))
