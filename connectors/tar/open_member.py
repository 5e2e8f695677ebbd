"""Members of an archive, opened to be looked at: a range of the archive's bytes, and only while it is the same member.

A member is known by its clip's id, which is made of its name, size, place and time. It is looked for in the archive's
headers, so nothing but the bytes of a member that was a clip is ever shown, whatever a name says.
"""

import os
from functools import lru_cache
from pathlib import Path
from threading import Lock

from connectors.contract import clip_id_of
from connectors.errors import Poison
from connectors.media.protocols import FileSpan
from connectors.media.tar_member import TarMember, tar_members

_MOST_MEMBERS = 100_000  # that are looked through for one: seconds of a thread, and not minutes
_KNOWN = 256  # members whose places are kept, for a player asks for many ranges of one

_Signature = tuple[int, int, int, int, int]
_looking = Lock()  # one look through an archive at a time


def member_id(source: str, archive: Path, member: TarMember) -> str:
    """Return the id of a member's clip."""
    place = (member.size_bytes, member.offset_bytes, member.mtime)
    return clip_id_of(source, archive.name, member.name, *map(str, place))


def open_member(archive: Path, source: str, name: str, clip_id: str, max_clip_bytes: int) -> FileSpan | None:
    """Return where a member's bytes lie in an archive that is opened for it; None where it is not there (any more)."""
    try:
        descriptor = _open(archive)
    except OSError:
        return None
    try:
        with _looking:
            place = _place(archive, _signature(descriptor), source, name, clip_id, max_clip_bytes)
    except BaseException:
        os.close(descriptor)
        raise
    if place is None:
        os.close(descriptor)
        return None
    return FileSpan(descriptor, *place)


def _open(archive: Path) -> int:
    return os.open(archive, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe in its place is not waited for


def _signature(descriptor: int) -> _Signature:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(_KNOWN)
def _place(
    archive: Path, signature: _Signature, source: str, name: str, clip_id: str, max_clip_bytes: int
) -> tuple[int, int] | None:
    """Return where a member begins and how long it is, in the archive of this signature."""
    try:
        with os.fdopen(_open(archive), "rb") as file:
            if _signature(file.fileno()) != signature:
                return None
            for member in tar_members(file, max_clip_bytes=max_clip_bytes, max_members=_MOST_MEMBERS):
                if member.name == name and member_id(source, archive, member) == clip_id:
                    member.accept()
                    return member.offset_bytes, member.size_bytes
    except (OSError, Poison):
        return None
    return None
