"""Members of archives: read where they lie, hostile ones refused."""

import asyncio
import io
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.errors import Poison, Reason, Transient
from connectors.media.spool import Spool
from connectors.media.tar_member import MemberMedia, TarMember, tar_members

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
    spool = Spool(path.parent / "spool", MAX_BYTES)
    with path.open("rb") as file:
        for member in tar_members(file, max_clip_bytes=MAX_BYTES, **limits):
            media = MemberMedia(member, spool)
            try:
                with os.fdopen(media.open(), "rb") as opened:
                    found.append((member, opened.read()))
            except Poison as refused:
                found.append((member, refused.reason))
            media.close()
    assert spool.held_bytes == 0
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
    assert sorted(os.listdir(tmp_path)) == ["spool", "x.tar"]
    assert os.listdir(tmp_path / "spool") == []


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
            next(iterator).accept()
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


def _sparse(path: Path, count: int, size_bytes: int) -> None:
    """Write an archive of members that are holes: hardly anything on the disk, and gigabytes when it is read."""
    with path.open("wb") as file:
        for number in range(count):
            info = tarfile.TarInfo(f"{number}.mp4")
            info.size = size_bytes
            file.write(info.tobuf())
            file.seek(size_bytes, os.SEEK_CUR)
        file.truncate(file.tell() + 1024)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.slow
async def test_members_are_copied_in_line_into_a_bounded_spool_and_off_the_loop(tmp_path: Path) -> None:
    size_bytes = 256 * 2**20
    _sparse(tmp_path / "x.tar", 6, size_bytes)
    assert os.stat(tmp_path / "x.tar").st_blocks * 512 < 2**20
    spool, most_bytes, ticks, late_s = Spool(tmp_path / "spool", size_bytes), 0, 0, 0.0
    with (tmp_path / "x.tar").open("rb") as archive:
        clips = [MemberMedia(member, spool) for member in tar_members(archive, max_clip_bytes=2**31)]
        resident = _resident_bytes()

        async def caption(clip: MemberMedia) -> None:
            await clip.fetch()
            descriptor = clip.open()
            assert (os.fstat(descriptor).st_size, os.fstat(descriptor).st_nlink) == (size_bytes, 0)
            await asyncio.sleep(0.05)
            os.close(descriptor)
            clip.close()

        begun_s = time.monotonic()
        working = asyncio.gather(*map(caption, clips))
        while not working.done():
            before_s = time.monotonic()
            await asyncio.sleep(0.01)
            late_s = max(late_s, time.monotonic() - before_s)
            most_bytes, ticks = max(most_bytes, spool.held_bytes), ticks + 1
        await working
        took_s = time.monotonic() - begun_s

    assert most_bytes == size_bytes
    assert spool.held_bytes == 0
    assert late_s < took_s / 8  # none of the six copies held the loop up
    assert _resident_bytes() - resident < 64 * 2**20
    assert ticks > 6


async def test_a_member_that_is_given_up_while_it_waits_for_room_lets_go(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", lambda tar: [add(tar, f"{n}.mp4", b"x" * 6000) for n in range(2)])
    spool = Spool(tmp_path / "spool", MAX_BYTES)
    with path.open("rb") as file:
        first, second = (MemberMedia(member, spool) for member in tar_members(file, max_clip_bytes=MAX_BYTES))
        await first.fetch()
        waiting = asyncio.create_task(second.fetch())
        await asyncio.sleep(0.1)
        assert not waiting.done()

        second.close()

        with pytest.raises(Transient, match="not wanted"):
            await waiting
        assert spool.held_bytes == 6000
        first.close()
    assert spool.held_bytes == 0


async def test_a_disk_that_can_not_take_the_copy_is_tried_again(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", lambda tar: add(tar, "a.mp4"))
    (tmp_path / "spool").write_bytes(b"a file where the spool's folder should be")
    with path.open("rb") as file:
        media = MemberMedia(next(tar_members(file, max_clip_bytes=MAX_BYTES)), Spool(tmp_path / "spool", MAX_BYTES))

        with pytest.raises(Transient, match=r"a\.mp4 can't be copied into the spool"):
            await media.fetch()
        media.close()
