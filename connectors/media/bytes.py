"""Encoded media in memory, in a sealed file that nobody can change and every child process can open."""

import fcntl
import os
from collections.abc import Iterable

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class BytesMedia:
    """A clip's bytes in a sealed memory file, freed at :meth:`close`."""

    def __init__(self, name: str, chunks: bytes | Iterable[bytes]) -> None:
        self.name = name
        self._descriptor = os.memfd_create("clip", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            self.size_bytes = 0
            for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
                self.size_bytes += _write_whole(self._descriptor, chunk)
            fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __repr__(self) -> str:
        return f"BytesMedia({self.name!r}, {self.size_bytes} bytes)"

    def open(self) -> int:
        """Return a new read-only descriptor at offset 0, with an offset of its own."""
        if self._descriptor < 0:
            raise ValueError(f"{self!r} is closed")
        return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Free the memory once every opened descriptor is closed too. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _write_whole(descriptor: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    return len(data)
