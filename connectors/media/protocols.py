"""The kinds of media: those that can be opened, those that are brought here first, and those that may change."""

import os
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


class Media(Protocol):
    """An encoded video or image that can be opened any number of times."""

    @property
    def name(self) -> str:
        """What messages call it: relative to the source, never a path of the machine."""
        ...

    @property
    def size_bytes(self) -> int:
        """Its size when it was received."""
        ...

    def open(self) -> int:
        """Return a new read-only descriptor at offset 0 that the caller closes; a ``Poison`` error when it is gone."""
        ...

    def close(self) -> None:
        """Let go of what keeps it (a memory file, a spooled copy); opened descriptors stay valid."""
        ...


@runtime_checkable
class DistantMedia(Protocol):
    """Media that lie somewhere else (behind a URL, inside an archive), and are brought here before they are opened."""

    async def fetch(self) -> None:
        """Bring them here, once; ``Poison`` or ``Transient`` where that can't be done."""
        ...


@runtime_checkable
class ChangeableMedia(Protocol):
    """Media that others can change while they are read: files, but not memory."""

    def verify(self) -> None:
        """Raise ``Poison`` (``changed``, ``vanished``) unless it still is what was received."""
        ...


@dataclass(frozen=True, slots=True)
class FileSpan:
    """Media as they lie in an open file: all of it, or what one member of an archive takes.

    They are ``size_bytes`` bytes from ``offset_bytes`` on. Whoever has a span closes it.
    """

    descriptor: int
    offset_bytes: int
    size_bytes: int

    @classmethod
    def whole(cls, descriptor: int) -> "FileSpan":
        """Return the span of a whole file, as large as it is now."""
        return cls(descriptor, 0, os.fstat(descriptor).st_size)

    def read(self, at: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``at`` on, and none behind the span's end."""
        return os.pread(self.descriptor, max(0, min(size, self.size_bytes - at)), self.offset_bytes + at)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)
