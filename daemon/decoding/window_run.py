"""The windows of one clip between being asked for and being taken: their memory, and the request to fill it."""

import asyncio
import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from connectors.errors import Poison, Reason
from daemon.decoding.clip_plan import ClipPlan
from daemon.decoding.protocol import Decode
from daemon.memory_file import make, mapped, mapped_with_descriptor
from daemon.windows import FrameSet, Window

WINDOWS_AHEAD = 6  # decoded and not yet taken: enough to keep an engine fed, little enough to hold in memory


@dataclass(frozen=True, slots=True)
class UnreadableWindow:
    """A window without one readable frame, with readable windows after it."""

    window: Window
    detail: str


def check_fits(plan: ClipPlan, limit_bytes: int, first: int = 0) -> None:
    """Refuse windows, from ``first`` on, that so many bytes never hold: those that overlap are held together."""
    if WINDOWS_AHEAD * plan.windows.most_frames * plan.largest_frame_bytes <= limit_bytes:
        return
    for at in range(first, len(plan.windows)):
        group = [plan.windows[at], *plan.overlapping(at, at + WINDOWS_AHEAD - 1)]
        need = sum(plan.window_bytes(w) for w in group)
        if need > limit_bytes:
            together = f" and the {len(group) - 1} that overlap it need" if len(group) > 1 else " needs"
            raise Poison(
                Reason.OVER_BUDGET,
                f"window {at}{together} {need:,} bytes of frames at once, and {limit_bytes:,} "
                "of limits.in_flight_bytes are there for frames: show fewer or smaller frames, or raise it",
            )


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

    def map(self, *, shared: bool) -> tuple[NDArray[np.uint8], int]:
        """Return the bytes as a read-only array, mapped without a copy, and a descriptor that is closed with it.

        There is none, -1, unless it is to be ``shared``, or while many windows have one.
        """
        if shared:
            return mapped_with_descriptor(self.memory, self.size_bytes)
        return mapped(self.memory, self.size_bytes), -1

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

    def request(self, at: int, threads: int, is_open: bool) -> tuple[Decode, list[int]]:
        """Return the request for window ``at``; to a child that does not have the clip open, with every memory file."""
        new = [i for i, filling in sorted(self.filling.items()) if not (is_open and filling.sent)]
        for i in new:
            self.filling[i].sent = True
        plan, windows = self.plan, self.plan.windows
        upcoming = windows[at : at + WINDOWS_AHEAD]
        request = Decode(
            **plan.asked(is_open),
            target=at,
            windows=tuple(new),
            counts=tuple(len(windows[i].frame_indices) for i in new),
            widths=tuple(plan.size_of(windows[i]).width for i in new),
            heights=tuple(plan.size_of(windows[i]).height for i in new),
            frame_indices=tuple(index for i in new for index in windows[i].frame_indices),
            wanted=tuple(sorted({index for window in upcoming for index in window.frame_indices})),
            threads=threads,
        )
        return request, [self.filling[i].memory for i in new]
