"""The windows that a child fills: each frame goes to its places in the memory file that the program made.

A file that is new is written by system calls, from memory that is used again and again: through a mapping each fresh
page would be a page fault, and all of them together cost twice as much as the calls. A file that comes again, for a
later window, has its pages and is written through a mapping, which costs half of the calls.
"""

import contextlib
import errno
import mmap
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from daemon.frame_look import FrameSize

_FILES = 64  # that are remembered


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a window shows a frame: ``at`` these numbers of its frames, each of ``size``."""

    window: "OpenWindow"
    at: list[int]

    @property
    def size(self) -> FrameSize:
        """The size of the window's frames."""
        return self.window.size

    def store(self, pixels: NDArray[np.uint8]) -> None:
        """Write ``uint8[H, W, 3]`` to all of it."""
        for at in self.at:
            self.window.store(pixels, at)


Places = Sequence[Place]


@dataclass(slots=True)
class _Known:
    """A memory file that has come: ``mapped`` from the second time on, and the ``clip`` that had it last."""

    clip: int
    mapped: NDArray[np.uint8] | None = None


class Mappings:
    """The memory files that have come more than once, mapped: the last ones, of so many bytes together.

    The program frees a file's pages when it lets go of it, but those that are written afterwards stay as long as it is
    mapped: so a clip that ends takes the mappings along that it had last.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._files = OrderedDict[int, _Known]()  # by their number, which no other file has while one is mapped

    def of(self, descriptor: int, size_bytes: int, clip: int) -> NDArray[np.uint8] | None:
        """Return the bytes of a file that has come before, None for one that is new or can't be mapped."""
        number = os.fstat(descriptor).st_ino
        known = self._files.pop(number, None)
        if known is None:
            known = _Known(clip)
        elif known.mapped is None and size_bytes <= self._limit_bytes:
            self._make_room(size_bytes)
            with contextlib.suppress(OSError):  # there is no room for it; it can be written all the same
                whole = mmap.mmap(descriptor, size_bytes, mmap.MAP_SHARED | mmap.MAP_POPULATE)
                known.mapped = np.frombuffer(whole, np.uint8)
        known.clip = clip
        self._files[number] = known
        if len(self._files) > _FILES:
            self._files.popitem(last=False)
        return known.mapped

    def forget(self, clip: int) -> None:
        """Unmap what a clip had last; a file that comes again is mapped again."""
        for known in self._files.values():
            if known.clip == clip:
                known.mapped = None

    def _make_room(self, size_bytes: int) -> None:
        """Unmap what has not come for longest, until so many bytes more may be mapped."""
        left_bytes = self._limit_bytes - sum(k.mapped.nbytes for k in self._files.values() if k.mapped is not None)
        for known in self._files.values():
            if left_bytes >= size_bytes:
                break
            if known.mapped is not None:
                left_bytes += known.mapped.nbytes
                known.mapped = None


@dataclass(slots=True, eq=False)
class OpenWindow:
    """A window that is being filled: ``pending`` has the place of each frame still missing.

    It owns the descriptor of its memory file. One that is ``mapped`` is written there, and its descriptor closed.
    """

    memory: int
    size: FrameSize
    shown: list[int]
    mapped: NDArray[np.uint8] | None = None
    pending: dict[int, Place] = field(default_factory=dict)

    @classmethod
    def of(
        cls, memory: int, frame_indices: Sequence[int], size: FrameSize, mapped: NDArray[np.uint8] | None = None
    ) -> "OpenWindow":
        """Return a window that shows these frames."""
        window = cls(memory, size, [-1] * len(frame_indices), mapped)
        if mapped is not None:
            window.close()
        for at, frame_index in enumerate(frame_indices):
            window.pending.setdefault(frame_index, Place(window, [])).at.append(at)
        return window

    def store(self, pixels: NDArray[np.uint8], at: int) -> None:
        """Write a frame; :class:`MemoryError` where the window is larger than this process may write."""
        if self.mapped is not None:
            self.mapped[self._span(at)] = pixels.reshape(-1)
            return
        data, offset = pixels.data.cast("B"), self._span(at).start
        try:
            while data.nbytes:
                done = os.pwrite(self.memory, data, offset)
                data, offset = data[done:], offset + done
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise MemoryError from error
            raise

    def _span(self, at: int) -> slice:
        return slice(at * self.size.frame_bytes, (at + 1) * self.size.frame_bytes)

    def _stored(self, at: int) -> NDArray[np.uint8]:
        span = self._span(at)
        if self.mapped is not None:
            return self.mapped[span]
        return np.frombuffer(os.pread(self.memory, self.size.frame_bytes, span.start), np.uint8)

    def is_written(self, frame_index: int, shown: int) -> None:
        """Take down which frame its place shows, if there is one; -1 for none."""
        place = self.pending.pop(frame_index, None)
        for at in place.at if place is not None else ():
            self.shown[at] = shown

    def finish(self) -> list[int]:
        """Show the frame before where there is none, else the first one that there is; return what is shown."""
        readable = [at for at, frame_index in enumerate(self.shown) if frame_index >= 0]
        for at, frame_index in enumerate(self.shown):
            if frame_index < 0 and readable:
                source = max((p for p in readable if p < at), default=readable[0])
                self.store(self._stored(source), at)
                self.shown[at] = self.shown[source]
        self.close()
        return self.shown

    def close(self) -> None:
        """Close the memory file."""
        if self.memory >= 0:
            os.close(self.memory)
            self.memory = -1


def fill(places: Places, write: Callable[..., int]) -> int:
    """Have a frame written once for each size, and store it; return the index of the frame, -1 for none.

    ``write`` takes one ``uint8[H, W, 3]`` for each size, and returns that index.
    """
    outs = {place.size: np.empty((place.size.height, place.size.width, 3), np.uint8) for place in places}
    shown = write(*outs.values())
    if shown >= 0:
        for place in places:
            place.store(outs[place.size])
    return shown
