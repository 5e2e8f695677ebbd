"""A clip's media in the program: one open descriptor, held to what the file was when it was opened.

Only an open descriptor is ever handed to a decoder, and none of a file that begins like a playlist.
"""

import os
import stat
from dataclasses import dataclass
from typing import Self

from connectors.errors import Poison, Reason
from connectors.media.protocols import Media
from daemon.decoding.media import HEAD_BYTES, refuse_playlists


@dataclass(slots=True)
class OpenMedia:
    """A clip's descriptor and what the file was when it was opened. :meth:`close` may be called again."""

    descriptor: int
    size_bytes: int
    _identity: tuple[int, ...]

    @classmethod
    def open(cls, media: Media, max_clip_bytes: int) -> Self:
        """Open the clip and refuse what no decoder needs to see; :class:`Poison` names the reason."""
        descriptor = media.open()
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Poison(Reason.FORBIDDEN_PATH, "not a regular file")
            if status.st_size == 0:
                raise Poison(Reason.EMPTY, "the file has no bytes")
            if status.st_size > max_clip_bytes:
                raise Poison(
                    Reason.TOO_LARGE,
                    f"{status.st_size:,} bytes are more than limits.max_clip_bytes ({max_clip_bytes:,})",
                )
            refuse_playlists(os.pread(descriptor, HEAD_BYTES, 0))
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, status.st_size, _identity(status))

    def check_unchanged(self) -> None:
        """Raise :class:`Poison` when the file is no longer the one that was opened."""
        status = os.fstat(self.descriptor)
        if _identity(status) != self._identity:
            raise Poison(
                Reason.CHANGED, f"the file had {self.size_bytes:,} bytes, now {status.st_size:,}, or was written to"
            )

    def close(self) -> None:
        """Close the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
