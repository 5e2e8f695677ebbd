"""Uploads that are not finished, by their names: left until their tool gives them another."""

import logging
from pathlib import Path

import pytest

from connectors.folder.scan import FolderScan
from connectors.folder.settings import UNFINISHED
from tests.contract.folder_harness import put_file

NAMES = [  # as the tools write them
    *("clip.mp4.part", "clip.mp4.filepart", "Unconfirmed 12345.crdownload", "clip.mp4.crdownload", "clip.mp4.!qB"),
    *(".clip.mp4.a8Xf2z", ".in.clip.mp4.", ".syncthing.clip.mp4.tmp", "~syncthing~clip.mp4.tmp", "clip.mp4.partial"),
    *(
        "clip.mp4.ocTransferId1234.part",
        ".~clip.mp4",
        "clip.mp4_.gstmp",
        "clip.mp4.bc!",
        "clip.mp4.!ut",
        "CLIP.MP4.PART",
    ),
    *(
        "clip.mp4.part-Frag3.part",
        "clip.mp4.part-Frag3",
        "clip.mp4.opdownload",
        ".pureftpd-upload.4f.1a",
        "clip.mp4.TMP",
    ),
]


def names(root: Path, **settings: object) -> list[str]:
    scan = FolderScan(root, "**/*", 0.0, **settings)  # type: ignore[arg-type]
    found = ["/".join(parts) for parts in scan.whole_files()]
    assert len(found) == len(set(found))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_names_of_common_tools_are_left_until_they_change(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"half")
    assert names(tmp_path) == []

    (tmp_path / name).rename(tmp_path / "clip.mp4")

    assert names(tmp_path) == ["clip.mp4"]


@pytest.mark.parametrize("name", ["clip.part.mp4", "party.mp4", "a~.mp4", "tmp", "part", "download.mp4", "x.mp4.parts"])
def test_names_that_only_look_alike_are_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"whole")

    assert names(tmp_path) == [name]


@pytest.mark.parametrize("ending", [".aria2", ".ARIA2", ".lftp-pget-status", ".st"])
def test_a_file_beside_that_says_how_far_it_is_holds_the_clip_back(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "clip.mp4").write_bytes(b"half")
    (tmp_path / "other.mp4").write_bytes(b"whole")
    (tmp_path / f"clip.mp4{ending}").write_bytes(b"state")
    scan = FolderScan(tmp_path, "**/*", 0.0)
    for _ in range(3):
        assert list(scan.whole_files()) == [("other.mp4",)]
    assert caplog.text.count("clip.mp4 is not finished") == 1

    (tmp_path / f"clip.mp4{ending}").unlink()

    assert list(scan.whole_files()) == [("clip.mp4",), ("other.mp4",)]


def test_an_empty_file_keeps_a_name_for_a_browser(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "whole.mp4").write_bytes(b"an older one, which a newer is to replace")
    for name in ("clip.mp4.part", "whole.mp4.part"):
        (tmp_path / name).write_bytes(b"half")

    assert names(tmp_path) == ["whole.mp4"]


def test_a_list_of_ones_own_replaces_the_default(tmp_path: Path) -> None:
    for name in ("a.part", "b.busy", "c.mp4", ".d.mp4", "e.{x}"):
        put_file(tmp_path, name)

    assert names(tmp_path, unfinished=["*.{BUSY,late}"]) == ["a.part", "c.mp4", "e.{x}"]
    assert names(tmp_path, unfinished=[]) == ["a.part", "b.busy", "c.mp4", "e.{x}"]
    assert names(tmp_path, unfinished=[*UNFINISHED, "*.busy"]) == ["c.mp4", "e.{x}"]


def test_what_is_passed_over_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in ("a.mp4", "x.part/b.mp4", "y.download/c.mp4", "sub/d.txt", "e.txt", ".stfolder/f.mp4", "g.mp4.part"):
        put_file(tmp_path, name)
    scan = FolderScan(tmp_path, "**/*.mp4", 0.0)
    for _ in range(3):
        assert list(scan.whole_files()) == [("a.mp4",)]

    assert [record.getMessage() for record in caplog.records] == [
        "x.part is a folder with the name of an unfinished upload: nothing is taken from it.",
        "y.download is a folder with the name of an unfinished upload: nothing is taken from it.",
        "Entries that have the name of an unfinished upload are left where they are: 2, first .stfolder.",
        "Entries that fit no pattern are left where they are: 2, first e.txt.",
    ]
