"""A clip of a watched folder is found wherever it lies, and nothing else is ever opened."""

import os
from pathlib import Path

import pytest

from connectors.contract import clip_id_of
from connectors.redo.open_clip import open_folder_clip

NAME = "porch/0412.mp4"


def write(path: Path, data: bytes = b"a clip") -> str:
    """Write a file and return the id that its clip has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    status = path.stat()
    return clip_id_of("inbox", *NAME.split("/"), str(status.st_size), str(status.st_mtime_ns))


def read(folder: Path, clip_id: str, name: str = NAME) -> bytes | None:
    descriptor = open_folder_clip(folder, "inbox", name, clip_id)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


@pytest.mark.parametrize("place", ["done/porch", "failed/porch", "work/host-1-abc/porch", "porch"])
def test_wherever_it_lies(tmp_path: Path, place: str) -> None:
    assert read(tmp_path, write(tmp_path / place / "0412.mp4")) == b"a clip"


def test_among_clips_of_its_name(tmp_path: Path) -> None:
    write(tmp_path / "done/porch/0412.mp4", b"another")
    write(tmp_path / "done/porch/0412.1.mp4", b"a third one")
    clip_id = write(tmp_path / "done/porch/0412.2.mp4")

    assert read(tmp_path, clip_id) == b"a clip"


def test_another_file_in_its_place_is_not_opened(tmp_path: Path) -> None:
    clip_id = write(tmp_path / "done" / NAME)
    write(tmp_path / "done" / NAME, b"another clip")

    assert read(tmp_path, clip_id) is None


@pytest.mark.parametrize("link", ["file", "folder", "done"])
def test_no_link_is_followed(tmp_path: Path, link: str) -> None:
    clip_id = write(tmp_path / "elsewhere" / "done" / NAME)
    folder = tmp_path / "inbox"
    match link:
        case "file":
            (folder / "done/porch").mkdir(parents=True)
            (folder / "done" / NAME).symlink_to(tmp_path / "elsewhere/done" / NAME)
        case "folder":
            (folder / "done").mkdir(parents=True)
            (folder / "done/porch").symlink_to(tmp_path / "elsewhere/done/porch")
        case _:
            folder.mkdir()
            (folder / "done").symlink_to(tmp_path / "elsewhere/done")

    assert read(folder, clip_id) is None


@pytest.mark.parametrize("name", ["", ".", "..", "../secret", "porch/../../secret", "/etc/passwd", "a\0b", "x" * 5000])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "done").mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b"a clip")
    status = secret.stat()
    clip_id = clip_id_of("inbox", *name.split("/"), str(status.st_size), str(status.st_mtime_ns))

    assert read(folder, clip_id, name) is None


def test_a_pipe_and_a_folder_are_no_clips(tmp_path: Path) -> None:
    (tmp_path / "done/porch").mkdir(parents=True)
    os.mkfifo(tmp_path / "done" / NAME)
    (tmp_path / "failed" / NAME).mkdir(parents=True)

    assert read(tmp_path, "0" * 32) is None
