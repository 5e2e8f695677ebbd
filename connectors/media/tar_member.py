"""Members of a tar archive as media: read one by one where they lie, never extracted.

Archives come from outside. Members that are not regular files, or whose names would lead out of a folder, are media
that refuse to open with a reason, so each ends as every clip does. What an archive can cost to read through is bounded
before it is read: headers, members, and the bytes of one member.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from connectors.errors import Poison, Reason
from connectors.media.bytes import BytesMedia

MAX_MEMBERS = 1_000_000
_MAX_HEADER_BYTES = 64 * 1024  # long names and attributes; tarfile would read gigabytes if a header said so
_HEADER_BYTES_EACH = 8 * 1024  # on average, over all members: bounds an archive that leads its reader in circles
_COPY_BYTES = 1024 * 1024


class _BoundedReader:
    """The file under a :class:`tarfile.TarFile`, with limits on what reading headers may cost."""

    def __init__(self, file: BinaryIO, budget_bytes: int) -> None:
        self._file, self._left_bytes = file, budget_bytes
        self.name, self.mode = "archive", "rb"

    def read(self, size: int = -1) -> bytes:
        """Read a header."""
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise tarfile.ReadError("more headers than its size allows")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a header."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Say where it is."""
        return self._file.tell()


@dataclass(frozen=True, slots=True)
class TarMember:
    """One member, by its place in the archive; ``refused`` says why it is no clip."""

    archive: BinaryIO = field(repr=False)
    name: str
    size_bytes: int
    offset_bytes: int
    max_clip_bytes: int
    refused: Poison | None = None
    mtime: float = 0.0  # seconds since the epoch, as the archive says

    def open(self) -> int:
        """Return a descriptor of a sealed copy in memory; it is freed when its last descriptor is closed."""
        if self.refused is not None:
            raise self.refused
        if self.size_bytes > self.max_clip_bytes:
            detail = f"{self.size_bytes} bytes are more than limits.max_clip_bytes ({self.max_clip_bytes})"
            raise Poison(Reason.TOO_LARGE, detail, origin="source")
        if self.size_bytes == 0:
            raise Poison(Reason.EMPTY, "the member has no bytes", origin="source")
        copy = BytesMedia(self.name, self._chunks())
        try:
            return copy.open()
        finally:
            copy.close()

    def close(self) -> None:
        return  # the archive belongs to whoever opened it

    def _chunks(self) -> Iterator[bytes]:
        at, end = self.offset_bytes, self.offset_bytes + self.size_bytes
        while at < end:
            chunk = os.pread(self.archive.fileno(), min(_COPY_BYTES, end - at), at)
            if not chunk:
                raise Poison(Reason.TRUNCATED, "the archive ends inside this member", origin="source")
            at += len(chunk)
            yield chunk


def tar_members(archive: BinaryIO, *, max_clip_bytes: int, max_members: int = MAX_MEMBERS) -> Iterator[TarMember]:
    """Yield the members of an open archive that are not folders, in their order.

    :class:`Poison` where the archive itself can't be read (further): compressed, cut, damaged, or with more than
    ``max_members``.
    """
    size_bytes = os.fstat(archive.fileno()).st_size
    budget_bytes = min(size_bytes, _HEADER_BYTES_EACH * max_members) + tarfile.RECORDSIZE
    reader = _BoundedReader(archive, budget_bytes)
    try:
        with tarfile.open(fileobj=reader, mode="r:", errorlevel=2, encoding="utf-8") as tar:  # type: ignore[call-overload]
            yield from _members(tar, archive, size_bytes, max_clip_bytes, max_members)
    except tarfile.TarError as error:
        kind = Reason.FORBIDDEN_FORMAT if archive_is_compressed(archive) else Reason.CORRUPT
        hint = "a compressed archive: unpack it to a plain tar" if kind == Reason.FORBIDDEN_FORMAT else str(error)
        raise Poison(kind, f"the archive can't be read: {hint}", origin="source") from error
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        detail = f"the archive can't be read: {type(error).__name__} in a header"
        raise Poison(Reason.CORRUPT, detail, origin="source") from error


def _members(
    tar: tarfile.TarFile, archive: BinaryIO, size_bytes: int, max_clip_bytes: int, max_members: int
) -> Iterator[TarMember]:
    before = -1
    for count in range(max_members + 1):
        info = tar.next()
        if info is None:
            return
        if count == max_members:
            raise tarfile.ReadError(f"more than {max_members} members")
        if info.offset_data <= before or info.size < 0:
            raise tarfile.ReadError("its headers lead backwards")
        before = info.offset_data
        tar.members = []  # type: ignore[attr-defined] # it would keep every member
        if not info.isdir():
            refused = _refusal(info, size_bytes)
            name = "/".join(part for part in info.name.split("/") if part not in ("", "."))
            yield TarMember(
                archive, name or "unnamed", info.size, info.offset_data, max_clip_bytes, refused, float(info.mtime)
            )


def _refusal(info: tarfile.TarInfo, archive_bytes: int) -> Poison | None:
    if not info.isreg() or info.issparse():
        return Poison(Reason.FORBIDDEN_PATH, "the member is not a regular file", origin="source")
    if info.name.startswith("/") or ".." in info.name.split("/") or not info.name.strip("./"):
        return Poison(Reason.FORBIDDEN_PATH, "the member's name leads out of a folder", origin="source")
    if any(ord(char) < 32 or char == "\x7f" for char in info.name):
        return Poison(Reason.FORBIDDEN_PATH, "the member's name has control characters", origin="source")
    if info.offset_data + info.size > archive_bytes:
        return Poison(Reason.TRUNCATED, "the archive ends inside this member", origin="source")
    return None


def archive_is_compressed(archive: BinaryIO) -> bool:
    """Whether the file begins as gzip, bzip2, xz or zstd do."""
    return os.pread(archive.fileno(), 6, 0).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
