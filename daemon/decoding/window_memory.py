"""The memory files of windows: made within the budget, lent to whoever reads a window, and filled again."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Hashable
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import NDArray

from daemon.decoding.budgets import ByteBudget
from daemon.memory_file import MemoryFile

_KEPT_S = 1.0  # what is spare, after the last clip
_MOST_SPARE = 16  # of a child: several clips decode in it by turns, each some windows ahead


class WindowMemory:
    """The memory files of windows, within a budget. One that nobody reads any more is filled again, by the same child.

    So its pages need not be made anew, which takes as long as writing to them. A ``child`` is named by what it shares
    with the one that takes its place: no other gets the file, for the first could still write to it. What is spare
    lies within what the budget has free, and goes as soon as that is needed, or when its child has had no clip for a
    second. For one event loop, but for what comes back.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self.budget, self.spare_bytes = budget, 0
        self._runs = Counter[Hashable]()  # by the child that they are decoded in
        self._leaving: dict[Hashable, asyncio.TimerHandle] = {}  # children without a run
        self._spare = defaultdict[Hashable, list[MemoryFile]](list)
        self._back = deque[tuple[Hashable, MemoryFile]]()  # from whichever thread had them last
        self._is_called = False  # to see what has come back

    def open(self, child: Hashable) -> None:
        """Keep what comes back from a child's windows, until :meth:`close` is called as often, and a while longer."""
        self._loop = asyncio.get_running_loop()
        self._runs[child] += 1
        if child in self._leaving:
            self._leaving.pop(child).cancel()

    def close(self, child: Hashable) -> None:
        """Have what is spare go soon, where nobody else decodes in this child."""
        if not self._runs[child]:
            return  # all is closed
        self._runs[child] -= 1
        if not self._runs[child]:
            self._leaving[child] = self._loop.call_later(_KEPT_S, self._leave, child)

    def close_all(self) -> None:
        """Let all go; what is lent goes when it comes back."""
        self._runs.clear()
        while self._leaving:
            self._leaving.popitem()[1].cancel()
        self._take_back()
        for spare in self._spare.values():
            while spare:
                self._drop_oldest(spare)

    async def reserve(self, child: Hashable, size_bytes: int) -> MemoryFile:
        """Return a file of this size, once there is room for it; ``ValueError`` when there never will be."""
        await self.budget.reserve(size_bytes)
        return self._of(child, size_bytes)

    def try_reserve(self, child: Hashable, size_bytes: int) -> MemoryFile | None:
        """Return a file of this size, or None where there is no room for it now."""
        return self._of(child, size_bytes) if self.budget.try_reserve(size_bytes) else None

    def lend(self, child: Hashable, memory: MemoryFile) -> NDArray[np.uint8]:
        """Return what a window shows. Whoever has it gives its bytes back to the budget once nobody needs them."""
        try:
            return memory.lend(partial(self._comes_back, child))
        except BaseException:
            self.drop(memory)
            raise

    def drop(self, memory: MemoryFile) -> None:
        """Let go of a file that is not lent, and of its bytes."""
        memory.close()
        self.budget.release(memory.size_bytes)

    def _of(self, child: Hashable, size_bytes: int) -> MemoryFile:
        """Return a file for bytes that are reserved."""
        self._take_back()
        spare = self._spare[child]
        at = next((at for at in reversed(range(len(spare))) if spare[at].size_bytes == size_bytes), None)
        found = spare.pop(at) if at is not None else None
        if found is not None:
            self.spare_bytes -= size_bytes
        self._make_room()
        try:
            return found or MemoryFile("captiond-window", size_bytes)
        except BaseException:
            self.budget.release(size_bytes)
            raise

    def _comes_back(self, child: Hashable, memory: MemoryFile) -> None:
        if child not in self._runs:
            memory.close()
            return
        self._back.append((child, memory))
        if not self._is_called:
            self._is_called = True
            with suppress(RuntimeError):  # the loop is closed, and the program about to end
                self._loop.call_soon_threadsafe(self._make_room)

    def _take_back(self) -> None:
        self._is_called = False
        while self._back:
            child, memory = self._back.popleft()
            if child not in self._runs or memory.descriptor < 0:
                memory.close()
                continue
            spare = self._spare[child]
            spare.append(memory)
            self.spare_bytes += memory.size_bytes
            if len(spare) > _MOST_SPARE:
                self._drop_oldest(spare)

    def _make_room(self) -> None:
        """Let go of what is spare beyond what the budget has free."""
        self._take_back()
        for spare in self._spare.values():
            while spare and self.budget.held_bytes + self.spare_bytes > self.budget.limit_bytes:
                self._drop_oldest(spare)

    def _leave(self, child: Hashable) -> None:
        """Let go of a spare file of a child, and soon of the next: each takes its time, in which others wait."""
        self._take_back()
        if self._spare[child]:
            self._drop_oldest(self._spare[child])
            self._leaving[child] = self._loop.call_later(0, self._leave, child)
        else:
            del self._runs[child], self._spare[child], self._leaving[child]

    def _drop_oldest(self, spare: list[MemoryFile]) -> None:
        memory = spare.pop(0)
        memory.close()
        self.spare_bytes -= memory.size_bytes
