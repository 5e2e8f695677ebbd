"""The daemon's reading of an index that a recorder appends to, or writes anew."""

import os
from pathlib import Path

from connectors.stream.index import Contents, decode_line

_LARGEST = 64 * 2**20


class IndexReader:
    """What an index says so far. :meth:`read` takes what was added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._at = 0
        self.contents = Contents()
        self._forgotten_ns = 0

    def read(self) -> bool:
        """Take what was added since; whether there was anything. A file that took the old one's place is read whole."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != self._file or status.st_size < self._at:
                self._file, self._at = (status.st_dev, status.st_ino), 0
                self.contents = Contents(mended=self.contents.mended, latest_ns=self.contents.latest_ns)
            text = os.pread(descriptor, min(status.st_size - self._at, _LARGEST), self._at)
        finally:
            os.close(descriptor)
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            if (said := decode_line(line)) is not None:
                self.contents.add(said)
        if whole:
            self.contents.forget(self._forgotten_ns)
        return bool(whole)

    def forget(self, until_ns: int) -> None:
        """Forget what lies before a time, now and whenever the index is read anew."""
        self._forgotten_ns = max(self._forgotten_ns, until_ns)
        self.contents.forget(self._forgotten_ns)
