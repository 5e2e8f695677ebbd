"""A member of an archive is found where its bytes lie, and nothing but the bytes of one that was a clip is opened."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from connectors.media.tar_member import tar_members
from connectors.tar import open_member as module
from connectors.tar.open_member import member_id, open_member
from testing.open_files import open_files

SOURCE, LIMIT_BYTES = "shards", 1000


def write(path: Path, *members: tarfile.TarInfo | tuple[str, bytes], **options: int) -> Path:
    """Write an archive of files, or of whatever a header says."""
    with tarfile.open(path, "w", **options) as tar:  # type: ignore[arg-type,call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size, info.mtime = len(member[1]), 7
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def ids(archive: Path) -> dict[str, str]:
    with archive.open("rb") as file:
        return {one.name: member_id(SOURCE, archive, one) for one in tar_members(file, max_clip_bytes=LIMIT_BYTES)}


def read(archive: Path, name: str, clip_id: str) -> bytes | None:
    span = open_member(archive, SOURCE, name, clip_id, LIMIT_BYTES)
    if span is None:
        return None
    data = span.read(0, 10**9)
    assert (len(data), span.read(span.size_bytes, 10), span.read(0, 1)) == (span.size_bytes, b"", data[:1])
    span.close()
    return data


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_member_and_nothing_behind_it(tmp_path: Path, form: int) -> None:
    name = "a" * 80 + "/" + "b" * 90 + ".mp4"
    archive = write(tmp_path / "s.tar", ("first.mp4", b"1" * 700), (name, b"a clip"), ("key.pem", b"s"), format=form)

    assert read(archive, name, ids(archive)[name]) == b"a clip"
    assert read(archive, "first.mp4", ids(archive)["first.mp4"]) == b"1" * 700


def test_of_two_of_one_name_the_one_of_the_id(tmp_path: Path) -> None:
    archive = write(tmp_path / "s.tar", ("a.mp4", b"old"), ("a.mp4", b"newer"))
    with archive.open("rb") as file:
        both = [member_id(SOURCE, archive, one) for one in tar_members(file, max_clip_bytes=LIMIT_BYTES)]

    assert [read(archive, "a.mp4", clip_id) for clip_id in both] == [b"old", b"newer"]


def test_only_under_its_own_name_and_id(tmp_path: Path) -> None:
    archive = write(tmp_path / "s.tar", ("a.mp4", b"clip"), ("b.mp4", b"clip"))
    known = ids(archive)

    for name, clip_id in [("a.mp4", known["b.mp4"]), ("a.mp4", "0" * 32), ("", known["a.mp4"]), ("../s.tar", "0" * 32)]:
        assert read(archive, name, clip_id) is None
    assert open_member(archive, "another", "a.mp4", known["a.mp4"], LIMIT_BYTES) is None


def test_what_was_no_clip_is_not_opened(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link.mp4")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device = tarfile.TarInfo("null.mp4")
    device.type = tarfile.CHRTYPE
    names = ("../out.mp4", "/etc/passwd", "large.mp4", "empty.mp4")
    files = [(name, b"x" * (LIMIT_BYTES + 1 if name == "large.mp4" else 5 * (name != "empty.mp4"))) for name in names]
    archive = write(tmp_path / "s.tar", link, device, *files)
    known = ids(archive)

    assert len(known) == 6
    assert [read(archive, name, clip_id) for name, clip_id in known.items()] == [None] * 6


def test_another_archive_in_its_place_shows_nothing(tmp_path: Path) -> None:
    archive = write(tmp_path / "s.tar", ("a.mp4", b"clip"), ("b.mp4", b"clip"))
    known = ids(archive)
    assert read(archive, "b.mp4", known["b.mp4"]) == b"clip"

    write(tmp_path / "t.tar", ("a.mp4", b"longer clip" * 50), ("b.mp4", b"else")).replace(archive)
    assert read(archive, "b.mp4", known["b.mp4"]) is None
    archive.write_bytes(b"no archive" * 100)
    assert read(archive, "b.mp4", known["b.mp4"]) is None
    archive.unlink()
    assert read(archive, "b.mp4", known["b.mp4"]) is None
    os.mkfifo(archive)
    assert read(archive, "b.mp4", known["b.mp4"]) is None


def test_what_is_appended_moves_nothing(tmp_path: Path) -> None:
    archive = write(tmp_path / "s.tar", ("a.mp4", b"clip"))
    clip_id = ids(archive)["a.mp4"]
    assert read(archive, "a.mp4", clip_id) == b"clip"

    with tarfile.open(archive, "a") as tar:
        tar.addfile(tarfile.TarInfo("b.mp4"))
    assert read(archive, "a.mp4", clip_id) == b"clip"


def test_an_archive_of_very_many_is_looked_through_in_part_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write(tmp_path / "s.tar", *((f"{number}.mp4", b"clip") for number in range(4)))
    known, looks = ids(archive), []
    monkeypatch.setattr(module, "_MOST_MEMBERS", 2)
    monkeypatch.setattr(module, "tar_members", lambda *given, **more: looks.append(1) or tar_members(*given, **more))

    assert [read(archive, f"{number}.mp4", known[f"{number}.mp4"]) for number in (0, 1, 3, 0, 1, 3)] == [
        *(b"clip", b"clip", None),
        *(b"clip", b"clip", None),
    ]
    assert len(looks) == 3


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    archive = write(tmp_path / "s.tar", ("a.mp4", b"clip"))
    before = open_files()

    read(archive, "a.mp4", ids(archive)["a.mp4"])
    read(archive, "b.mp4", "0" * 32)

    assert open_files() == before
