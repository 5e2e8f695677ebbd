"""Encoded media in a file, held to what it was when it was received."""

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path

from connectors.errors import Poison, Reason, Transient
from connectors.files.openat import open_file, stat_file

_GONE = {errno.ENOENT, errno.ESTALE}
_FORBIDDEN = {
    errno.ELOOP: "a symbolic link",
    errno.ENOTDIR: "a folder on the way is a symbolic link or a file",
    errno.EINVAL: "not a regular file",
    errno.ENXIO: "not a regular file",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENAMETOOLONG: "its name is too long",
}


@dataclass(frozen=True, slots=True)
class FileMedia:
    """A regular file at ``parts`` beneath ``root``. It is opened without following links, each time anew.

    ``size_bytes`` and ``mtime_ns`` are those at the time it was received: another size or time is ``changed``.
    """

    root: Path = field(repr=False)
    parts: tuple[str, ...] = field(repr=False)
    name: str
    size_bytes: int
    mtime_ns: int
    max_clip_bytes: int

    @classmethod
    def received(cls, root: Path, parts: tuple[str, ...], max_clip_bytes: int, name: str | None = None) -> "FileMedia":
        """Return the media of what lies at ``parts`` now; :class:`Poison` where nothing does."""
        shown = "/".join(parts) if name is None else name
        try:
            status = stat_file(root, parts)
        except OSError as error:
            raise refusal(error, shown) from error
        return cls.of(status, root, parts, max_clip_bytes, shown)

    @classmethod
    def of(
        cls, status: os.stat_result, root: Path, parts: tuple[str, ...], max_clip_bytes: int, name: str
    ) -> "FileMedia":
        """Return the media of what lies at ``parts``, whose status is known."""
        return cls(root, parts, name, status.st_size, status.st_mtime_ns, max_clip_bytes)

    def open(self) -> int:
        """Return a new descriptor at offset 0; :class:`Poison` unless the file is what was received, and acceptable."""
        try:
            descriptor, status = open_file(self.root, self.parts)
        except OSError as error:
            raise refusal(error, self.name) from error
        try:
            self._accept(status)
        except Poison:
            os.close(descriptor)
            raise
        return descriptor

    def verify(self) -> None:
        try:
            self._accept(stat_file(self.root, self.parts))
        except OSError as error:
            raise refusal(error, self.name) from error

    def close(self) -> None:
        return

    def _accept(self, status: os.stat_result) -> None:
        if (status.st_size, status.st_mtime_ns) != (self.size_bytes, self.mtime_ns):
            grew = (
                f"from {self.size_bytes} to {status.st_size} bytes" if status.st_size != self.size_bytes else "in place"
            )
            raise Poison(Reason.CHANGED, f"the file changed {grew} after it was received", origin="source")
        if status.st_size == 0:
            raise Poison(Reason.EMPTY, "the file has no bytes", origin="source")
        if status.st_size > self.max_clip_bytes:
            detail = f"{status.st_size} bytes are more than limits.max_clip_bytes ({self.max_clip_bytes})"
            raise Poison(Reason.TOO_LARGE, detail, origin="source")


def refusal(error: OSError, name: str) -> Poison | Transient:
    """Return what an error of the file system means for a clip called ``name``."""
    if error.errno in _GONE:
        return Poison(Reason.VANISHED, f"{name} is not there any more", origin="source")
    if error.errno in _FORBIDDEN:
        return Poison(Reason.FORBIDDEN_PATH, f"{name}: {_FORBIDDEN[error.errno]}", origin="source")
    return Transient(f"{name} can't be opened: {error.strerror}", reason=Reason.VANISHED, origin="source")
