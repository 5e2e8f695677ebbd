"""A recorder's folder: segments, the headers of their formats, and the index, within a bound of bytes.

Nothing is synced: what a power cut takes is missing afterwards, and said, as the stream itself was meanwhile.
"""

import errno
import hashlib
import os
from contextlib import suppress

from connectors.stream.child.packet import StreamFormat
from connectors.stream.index import INDEX, RELEASED, Absence, Contents, Line, Segment, decode_line, encode_line

_LONG_INDEX = 4 * 2**20
_MAX_UNWRITTEN = 10_000
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


class Store:
    """The folder, which only this process writes to, but for ``released``. ``folder`` is its descriptor."""

    def __init__(self, folder: int, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self.contents = Contents()
        self._index = -1
        self._index_bytes = 0
        self._unwritten: list[Line] = []
        self._headers: dict[StreamFormat, str] = {}
        self._released_ns = 0
        self.bytes = 0

    def open(self) -> None:
        """Read what is there: half a line is cut, and files that the index does not name go."""
        self._index = os.open(INDEX, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
        text = b""
        while piece := os.read(self._index, 2**20):
            text += piece
        self._index_bytes = text.rfind(b"\n") + 1
        os.ftruncate(self._index, self._index_bytes)
        for line in text[: self._index_bytes].splitlines():
            if (said := decode_line(line)) is not None:
                self.contents.add(said)
        self._keep_what_is_whole()
        self.bytes = sum(segment.size_bytes for segment in self.contents.segments)
        self.tidy()
        self._rewrite()

    def _keep_what_is_whole(self) -> None:
        """Drop segments that are not there as the index says, and files that no segment needs."""
        sizes = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
        segments: list[Segment] = []
        lost: list[Segment] = []
        for segment in self.contents.segments:
            is_whole = sizes.get(segment.file) == segment.size_bytes and sizes.get(segment.format, 0) > 0
            (segments if is_whole else lost).append(segment)
        self.contents.segments = segments
        for segment in lost:
            self.contents.add(Absence(segment.start_ns, segment.end_ns, "discarded"))
        needed = {one.file for one in segments} | {one.format for one in segments}
        for name in sizes.keys() - needed:
            if name.endswith((".m4s", ".mp4")):  # others of the source lie beside them
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._folder)

    def say(self, line: Line) -> None:
        """Append a line; where the disk has no room it waits for the next that is written."""
        self.contents.add(line)
        self._unwritten.append(line)
        del self._unwritten[:-_MAX_UNWRITTEN]
        with suppress(OSError):
            self._append(b"".join(map(encode_line, self._unwritten)))
            self._unwritten.clear()
        if self._index_bytes > _LONG_INDEX:
            with suppress(OSError):
                self._rewrite()

    def _append(self, data: bytes) -> None:
        try:
            at = self._index_bytes
            while data:
                written = os.pwrite(self._index, data, at)
                data, at = data[written:], at + written
        except OSError:
            os.ftruncate(self._index, self._index_bytes)
            raise
        self._index_bytes = at

    def add(self, name: StreamFormat, header: bytes, segment: Segment, data: bytes) -> None:
        """Keep a segment, or say that it was discarded where the disk has no room for it."""
        self.tidy(len(data))
        try:
            segment = self._written(name, header, segment, data)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            with suppress(OSError):
                os.unlink(segment.file, dir_fd=self._folder)
            self.say(Absence(segment.start_ns, segment.end_ns, "discarded"))
            return
        self.bytes += segment.size_bytes
        self.say(segment)

    def _written(self, name: StreamFormat, header: bytes, segment: Segment, data: bytes) -> Segment:
        if (file := self._headers.get(name)) is None:
            fields = (name.codec, str(name.width), str(name.height), name.extradata.hex())
            file = f"format-{hashlib.sha256('|'.join(fields).encode()).hexdigest()[:16]}.mp4"
            self._write(file, header)
            self._headers[name] = file
        self._write(segment.file, data)
        return Segment(
            segment.file, file, segment.start_ns, segment.end_ns, segment.clock, segment.media_ns, segment.key_ns,
            len(data), segment.arrived_ns, segment.frames,
        )  # fmt: skip

    def _write(self, name: str, data: bytes) -> None:
        beside = f".{name}"
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError:
            os.unlink(beside, dir_fd=self._folder)
            raise
        finally:
            os.close(file)
        os.rename(beside, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def tidy(self, more_bytes: int = 0) -> None:
        """Delete what has its messages, and then, where there is no room, the oldest that has none, which is said."""
        self._read_released()
        for segment in self.contents.forget(self._released_ns):
            self._delete(segment)
        while self.contents.segments and self.bytes + more_bytes > self._max_bytes:
            oldest = self.contents.segments.pop(0)
            self._delete(oldest)
            start_ns = max(oldest.start_ns, self._released_ns)
            if start_ns < oldest.end_ns:
                self.say(Absence(start_ns, oldest.end_ns, "discarded"))

    def _delete(self, segment: Segment) -> None:
        self.bytes -= segment.size_bytes
        with suppress(OSError):
            os.unlink(segment.file, dir_fd=self._folder)

    def _read_released(self) -> None:
        with suppress(OSError, ValueError):
            file = os.open(RELEASED, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._folder)
            try:
                self._released_ns = max(self._released_ns, int(os.read(file, 32)))
            finally:
                os.close(file)

    def _rewrite(self) -> None:
        """Write the index anew with what still counts; readers see another file of its name and begin again."""
        recorded: list[Segment | Absence] = [*self.contents.segments, *self.contents.missing]
        lines: list[Line] = [*sorted(recorded, key=lambda one: one.start_ns)]
        lines += [self.contents.link] if self.contents.link is not None else []
        if (latest_ns := self.contents.latest_ns) is not None:
            lines.append(Absence(latest_ns, latest_ns, "not_recording"))  # how far it went, whatever was forgotten
        data = b"".join(map(encode_line, lines))
        self._write(INDEX, data)
        os.close(self._index)
        self._index = os.open(INDEX, os.O_RDWR | os.O_CLOEXEC, dir_fd=self._folder)
        self._index_bytes = len(data)
