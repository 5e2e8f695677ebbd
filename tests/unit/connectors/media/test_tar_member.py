"""Members of archives: read where they lie, hostile ones refused."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.errors import Poison, Reason
from connectors.media.tar_member import TarMember, tar_members

MAX_BYTES = 10_000
Make = Callable[[tarfile.TarFile], object]


def add(tar: tarfile.TarFile, name: str, content: bytes = b"clip", kind: bytes = tarfile.REGTYPE, **more: str) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    for key, value in more.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content))


def archive(path: Path, make: Make, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        make(tar)
    return path


def members(path: Path, **limits: int) -> list[tuple[TarMember, bytes | str]]:
    """Return each member with its content or the reason why it has none."""
    found: list[tuple[TarMember, bytes | str]] = []
    with path.open("rb") as file:
        for member in tar_members(file, max_clip_bytes=MAX_BYTES, **limits):
            try:
                with os.fdopen(member.open(), "rb") as opened:
                    found.append((member, opened.read()))
            except Poison as refused:
                found.append((member, refused.reason))
    return found


def test_members_are_read_where_they_lie(tmp_path: Path) -> None:
    def make(tar: tarfile.TarFile) -> None:
        add(tar, "./a.mp4", b"one")
        add(tar, "dir", b"", tarfile.DIRTYPE)
        add(tar, "dir/b.mp4", b"two" * 1000)
        add(tar, "dir/" + "long" * 40 + ".mp4", b"three")

    found = members(archive(tmp_path / "x.tar", make))

    assert [(member.name, content) for member, content in found] == [
        ("a.mp4", b"one"),
        ("dir/b.mp4", b"two" * 1000),
        ("dir/" + "long" * 40 + ".mp4", b"three"),
    ]
    assert os.listdir(tmp_path) == ["x.tar"]


HOSTILE: dict[str, tuple[Make, str]] = {
    "absolute": (lambda tar: add(tar, "/etc/cron.d/x"), Reason.FORBIDDEN_PATH),
    "dots": (lambda tar: add(tar, "../../x.mp4"), Reason.FORBIDDEN_PATH),
    "dots inside": (lambda tar: add(tar, "a/../../x.mp4"), Reason.FORBIDDEN_PATH),
    "symbolic link": (lambda tar: add(tar, "l", b"", tarfile.SYMTYPE, linkname="/etc/passwd"), Reason.FORBIDDEN_PATH),
    "hard link": (lambda tar: add(tar, "l", b"", tarfile.LNKTYPE, linkname="/etc/passwd"), Reason.FORBIDDEN_PATH),
    "device": (lambda tar: add(tar, "d", b"", tarfile.CHRTYPE), Reason.FORBIDDEN_PATH),
    "pipe": (lambda tar: add(tar, "p", b"", tarfile.FIFOTYPE), Reason.FORBIDDEN_PATH),
    "control characters": (lambda tar: add(tar, "a\n\x1b[2J.mp4"), Reason.FORBIDDEN_PATH),
    "no name": (lambda tar: add(tar, "."), Reason.FORBIDDEN_PATH),
    "empty": (lambda tar: add(tar, "a.mp4", b""), Reason.EMPTY),
    "too large": (lambda tar: add(tar, "a.mp4", b"x" * (MAX_BYTES + 1)), Reason.TOO_LARGE),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_members_and_their_neighbours(tmp_path: Path, case: str) -> None:
    make, reason = HOSTILE[case]

    def between(tar: tarfile.TarFile) -> None:
        add(tar, "before.mp4")
        make(tar)
        add(tar, "after.mp4")

    found = members(archive(tmp_path / "x.tar", between))

    assert [content for _, content in found] == [b"clip", reason, b"clip"]


def _poke(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of the first header and correct its checksum."""
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(data)] = data
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    path.write_bytes(raw)


def _fault(path: Path, **limits: int) -> str:
    with pytest.raises(Poison) as refused:
        members(path, **limits)
    return refused.value.reason


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.gz", lambda tar: add(tar, "a.mp4"), "w:gz")

    assert _fault(path) == Reason.FORBIDDEN_FORMAT


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(os.urandom(4096))

    assert _fault(path) == Reason.CORRUPT


def test_a_member_that_is_cut_is_truncated(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", lambda tar: add(tar, "a.mp4", b"x" * 5000))
    os.truncate(path, 2048)

    with path.open("rb") as file:
        iterator = tar_members(file, max_clip_bytes=MAX_BYTES)
        with pytest.raises(Poison) as refused:
            next(iterator).open()
        assert refused.value.reason == Reason.TRUNCATED
        with pytest.raises(Poison):
            next(iterator)


def test_a_negative_size_does_not_lead_in_circles(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", lambda tar: [add(tar, "a.mp4"), add(tar, "b.mp4")])
    _poke(path, 124, b"\xff" * 12)  # a size of -1, base 256

    assert _fault(path) == Reason.CORRUPT


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", lambda tar: add(tar, "a" * 150 + ".mp4"), "w")
    _poke(path, 124, b"%011o\0" % 2**32)  # the size of the header that holds the long name
    os.truncate(path, 2**33)  # sparse: the file has that many bytes

    assert _fault(path) == Reason.CORRUPT


def test_the_number_of_members_is_bounded(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", lambda tar: [add(tar, f"{i}.mp4") for i in range(5)])

    assert len(members(path, max_members=5)) == 5
    assert _fault(path, max_members=4) == Reason.CORRUPT
