"""The windows of one clip between being asked for and being taken: their memory, and the request to fill it."""

import asyncio
import ctypes
import fcntl
import mmap
import os
import weakref
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from daemon.decoding.clip_plan import ClipPlan
from daemon.decoding.protocol import Decode, reading
from daemon.windows import FrameSet, Window

_MAP_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

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
        memory = os.memfd_create("captiond-window", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(memory, size_bytes)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        except BaseException:
            os.close(memory)
            raise
        return cls(memory, size_bytes)

    def map(self) -> NDArray[np.uint8]:
        """Return the bytes as a read-only array, mapped without a copy until the array is gone.

        :mod:`mmap` would keep a descriptor a window; with hundreds of windows in an engine that is too many.
        """
        address = _libc.mmap(None, self.size_bytes, mmap.PROT_READ, mmap.MAP_SHARED, self.memory, 0)
        if address == _MAP_FAILED:
            raise OSError(ctypes.get_errno(), "a window's memory can't be mapped")
        block = (ctypes.c_ubyte * self.size_bytes).from_address(address)
        weakref.finalize(block, _libc.munmap, address, self.size_bytes).atexit = False
        array = np.ctypeslib.as_array(block)
        array.flags.writeable = False
        return array

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
            widths=tuple(plan.size_of(windows[i]).width for i in new),
            heights=tuple(plan.size_of(windows[i]).height for i in new),
            frame_indices=tuple(index for i in new for index in windows[i].frame_indices),
            wanted=tuple(sorted({index for window in upcoming for index in window.frame_indices})),
        )
        return request, [self.filling[i].memory for i in new]
