"""The windows of one clip between being asked for and being taken: their memory, and the request to fill it."""

import asyncio
import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from daemon.decoding.clip_plan import ClipPlan
from daemon.decoding.protocol import Decode, reading
from daemon.memory_file import make, mapped_with_descriptor
from daemon.windows import FrameSet, Window

WINDOWS_AHEAD = 6  # decoded and not yet taken: enough to keep an engine fed, little enough to hold in memory


@dataclass(frozen=True, slots=True)
class UnreadableWindow:
    """A window without one readable frame, with readable windows after it."""

    window: Window
    detail: str


@dataclass(slots=True, eq=False)
class WindowMemory:
    """A window whose bytes are reserved and whose memory file the child is writing to."""

    memory: int
    size_bytes: int
    sent: bool = False

    @classmethod
    def of(cls, size_bytes: int) -> "WindowMemory":
        """Make a memory file of a size that nobody can change any more: a child can't pull pages from under us."""
        return cls(make("captiond-window", size_bytes), size_bytes)

    def map(self) -> tuple[NDArray[np.uint8], int]:
        """Return the bytes as a read-only array, mapped without a copy, and a descriptor that is closed with it.

        There is none, -1, while many windows have one.
        """
        return mapped_with_descriptor(self.memory, self.size_bytes)

    def close(self) -> None:
        """Close the descriptor; what is mapped stays."""
        if self.memory >= 0:
            os.close(self.memory)
            self.memory = -1


@dataclass(slots=True, eq=False)
class WindowRun:
    """One pass over a plan's windows."""

    plan: ClipPlan
    first_window: int
    ahead: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WINDOWS_AHEAD))
    taken: int = 0  # windows that the consumer has asked for
    filling: dict[int, WindowMemory] = field(default_factory=dict)
    results: asyncio.Queue[FrameSet | UnreadableWindow | Exception | None] = field(default_factory=asyncio.Queue)

    def request(self, at: int, is_open: bool) -> tuple[Decode, list[int]]:
        """Return the request for window ``at``; to a child that does not have the clip open, with every memory file."""
        new = [i for i, filling in sorted(self.filling.items()) if not (is_open and filling.sent)]
        for i in new:
            self.filling[i].sent = True
        plan, windows = self.plan, self.plan.windows
        upcoming = windows[at : at + WINDOWS_AHEAD]
        request = Decode(
            session=plan.session.number,
            decoder=plan.session.sender.decoder,
            **reading(plan.limits, plan.look),
            opens=not is_open,
            width=plan.width,
            height=plan.height,
            target=at,
            windows=tuple(new),
            counts=tuple(len(windows[i].frame_indices) for i in new),
            frame_indices=tuple(index for i in new for index in windows[i].frame_indices),
            wanted=tuple(sorted({index for window in upcoming for index in window.frame_indices})),
        )
        return request, [self.filling[i].memory for i in new]
