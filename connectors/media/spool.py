"""Copies of media that a decoder can't open where they lie, in files without a name.

Nothing is copied before the clip's turn has come, and never in the event loop. The room is reserved first: a copy waits
until other clips have let go of theirs, so what lies in the spool is bounded whatever arrives.
"""

import asyncio
import os
import tempfile
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from connectors.errors import Poison, Reason, Transient


class Spool:
    """The place of a source's copies while their clips are in flight: ``max_bytes`` of them together."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self.held_bytes = 0
        self.received_bytes = 0  # since the start
        self._changed = threading.Condition()
        self._line: deque[object] = deque()

    def take(self, size_bytes: int, is_wanted: Callable[[], bool]) -> bool:
        """Wait in line for room, as long as it is wanted; what is larger than the whole spool is let in alone."""
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            self._changed.wait_for(lambda: not is_wanted() or (self._line[0] is ticket and self._has_room(size_bytes)))
            self._line.remove(ticket)
            self._changed.notify_all()
            if is_wanted():
                self.held_bytes += size_bytes
                return True
            return False

    def _has_room(self, size_bytes: int) -> bool:
        return self.held_bytes == 0 or self.held_bytes + size_bytes <= self.max_bytes

    def give(self, size_bytes: int) -> None:
        """Give room back."""
        with self._changed:
            self.held_bytes -= size_bytes
            self._changed.notify_all()

    def look_again(self) -> None:
        """Let those who wait ask whether they still want to."""
        with self._changed:
            self._changed.notify_all()


class SpooledMedia(ABC):
    """Media that are copied into the spool. :meth:`fetch` does it once; opens use the copy."""

    def __init__(self, name: str, size_bytes: int, *, spool: Spool, max_clip_bytes: int) -> None:
        self.name, self.size_bytes = name, size_bytes
        self._spool, self._max_clip_bytes = spool, max_clip_bytes
        self._lock = threading.Lock()  # held by whoever makes the copy or lets it go
        self._is_wanted = True
        self._descriptor = -1
        self._reserved_bytes = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abstractmethod
    def _copy(self) -> int:
        """Reserve room, make the copy and return its descriptor; :class:`Poison` or :class:`Transient` where it can't.

        Runs in a thread of its own.
        """

    async def fetch(self) -> None:
        """Make the copy; see :class:`.protocols.DistantMedia`. Cancelled, it goes on until `close`."""
        loop = asyncio.get_running_loop()
        fetched: asyncio.Future[None] = loop.create_future()

        def work() -> None:
            fault: BaseException | None = None
            try:
                self._bring()
            except BaseException as error:
                fault = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, fetched, fault)

        threading.Thread(target=work, name="spool", daemon=True).start()  # a store that hangs must not keep a stop
        await fetched

    def open(self) -> int:
        """Return a new descriptor of the copy; where nobody has fetched it, it is made first."""
        if self._descriptor < 0:
            self._bring()
        return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let the copy go once every opened descriptor is closed; one that is being made is given up. Idempotent."""
        self._is_wanted = False
        self._spool.look_again()
        if self._lock.acquire(blocking=False):  # else whoever holds it lets go when it sees that it is not wanted
            try:
                self._let_go()
            finally:
                self._lock.release()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        reserved_bytes, self._reserved_bytes = self._reserved_bytes, 0
        self._spool.give(reserved_bytes)

    def _bring(self) -> None:
        with self._lock:
            try:
                if self._descriptor < 0 and self._is_wanted:
                    self._descriptor = self._copy()
            except BaseException:
                self._let_go()
                raise
        if not self._is_wanted:
            self.close()
            raise self._unwanted()

    def _unwanted(self) -> Transient:
        return Transient(f"{self.name} is not wanted any more", reason=Reason.VANISHED, origin="source")

    def _reserve(self, size_bytes: int) -> None:
        """Wait for room for a copy of this size."""
        if not self._spool.take(size_bytes, lambda: self._is_wanted):
            raise self._unwanted()
        self._reserved_bytes = size_bytes

    def _write(self, chunks: Iterable[bytes]) -> int:
        """Write a copy into a file without a name, which the system removes with the last descriptor."""
        self._spool.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._spool.folder) as copy:
            received_bytes = 0
            for chunk in chunks:
                if not self._is_wanted:
                    break
                received_bytes += len(chunk)
                self._spool.received_bytes += len(chunk)
                if received_bytes > self._reserved_bytes:
                    detail = f"{received_bytes} bytes are more than were declared ({self._reserved_bytes})"
                    raise Poison(Reason.TOO_LARGE, detail, origin="source")
                copy.write(chunk)
            copy.flush()
            self.size_bytes = received_bytes
            return os.dup(copy.fileno())


def _settle(fetched: "asyncio.Future[None]", fault: BaseException | None) -> None:
    if fetched.done():
        return  # nobody waits any more
    if fault is None:
        fetched.set_result(None)
    else:
        fetched.set_exception(fault)
