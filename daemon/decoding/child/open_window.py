"""The windows that a child fills: each frame goes to its places in the memory file that the program made.

Frames are written by system calls from memory that is used again and again. Through a mapping each fresh page of the
file would be a page fault, and all of them together cost twice as much as the calls.
"""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from daemon.frame_look import FrameSize


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
            self.window.store(pixels.data, at)


Places = Sequence[Place]


@dataclass(slots=True, eq=False)
class OpenWindow:
    """A window that is being filled: ``pending`` has the place of each frame still missing.

    It owns the descriptor of its memory file.
    """

    memory: int
    size: FrameSize
    shown: list[int]
    pending: dict[int, Place] = field(default_factory=dict)

    @classmethod
    def of(cls, memory: int, frame_indices: Sequence[int], size: FrameSize) -> "OpenWindow":
        """Return a window that shows these frames."""
        window = cls(memory, size, [-1] * len(frame_indices))
        for at, frame_index in enumerate(frame_indices):
            window.pending.setdefault(frame_index, Place(window, [])).at.append(at)
        return window

    def store(self, pixels: memoryview, at: int) -> None:
        """Write a frame's bytes; :class:`MemoryError` where the window is larger than this process may write."""
        data, at = pixels.cast("B"), at * self.size.frame_bytes
        try:
            while data.nbytes:
                done = os.pwrite(self.memory, data, at)
                data, at = data[done:], at + done
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise MemoryError from error
            raise

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
                frame = os.pread(self.memory, self.size.frame_bytes, source * self.size.frame_bytes)
                self.store(memoryview(frame), at)
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
