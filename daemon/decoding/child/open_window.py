"""A window that a decoding child fills: the parent's memory file, mapped, and the frames that are still missing."""

import mmap
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.frame_look import FrameSize


@dataclass(slots=True)
class OpenWindow:
    """A window that is being filled: ``pending`` maps each frame still missing to the places that show it."""

    frames: NDArray[np.uint8]
    shown: list[int]
    pending: dict[int, list[int]]

    @classmethod
    def open(cls, memory: int, frame_indices: list[int], size: FrameSize) -> "OpenWindow":
        """Map the memory file (and close its descriptor)."""
        try:
            mapped = mmap.mmap(memory, len(frame_indices) * size.frame_bytes)
        finally:
            os.close(memory)
        shape = (len(frame_indices), size.height, size.width, 3)
        pending: dict[int, list[int]] = {}
        for place, frame_index in enumerate(frame_indices):
            pending.setdefault(frame_index, []).append(place)
        return cls(np.frombuffer(mapped, np.uint8).reshape(shape), [-1] * len(frame_indices), pending)

    def close_gaps(self) -> None:
        """Show the frame before where there is none, else the first one that there is."""
        readable = [place for place, frame_index in enumerate(self.shown) if frame_index >= 0]
        for place, frame_index in enumerate(self.shown):
            if frame_index < 0 and readable:
                source = max((p for p in readable if p < place), default=readable[0])
                self.frames[place], self.shown[place] = self.frames[source], self.shown[source]
