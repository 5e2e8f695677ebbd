"""The memory files of windows: made within the budget, lent to whoever reads a window, and filled again."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Hashable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from daemon.decoding.budgets import ByteBudget
from daemon.memory_file import MemoryFile

_KEPT_S = 1.0  # what is spare, after the last clip
_MOST_SPARE = 32  # of a child: several clips decode in it by turns, each some windows ahead


class WindowMemory:
    """The memory files of windows, within a budget. One that nobody reads any more is filled again, by the same child.

    So its pages need not be made anew, which takes as long as writing to them. It never goes to another child: the
    first could still write to what it has had in hand. What is spare lies within what the budget has free, and goes as
    soon as that is needed, or when its child has had no clip for a second. For one event loop, but for what comes back.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self.budget, self.spare_bytes = budget, 0
        self._runs = Counter[Hashable]()  # by the child that they are decoded in
        self._spare = defaultdict[Hashable, list[MemoryFile]](list)
        self._back = deque[tuple[Hashable, MemoryFile]]()  # from whichever thread had them last

    def open(self, child: Hashable) -> None:
        """Keep what comes back from a child's windows, until :meth:`close` is called as often, and a while longer."""
        self._runs[child] += 1

    def close(self, child: Hashable) -> None:
        """Have what is spare go soon, where nobody else decodes in this child."""
        if self._runs[child] > 1:
            self._runs[child] -= 1
        elif child in self._runs:
            self._runs[child] = 0
            asyncio.get_running_loop().call_later(_KEPT_S, self._forget, child)

    def close_all(self) -> None:
        """Let all go; what is lent goes when it comes back."""
        self._runs.clear()
        for spare in self._spare.values():
            self._drop(spare)
        self._sort()

    async def reserve(self, child: Hashable, size_bytes: int) -> MemoryFile:
        """Return a file of this size, once there is room for it; ``ValueError`` when there never will be."""
        self._sort()
        await self.budget.reserve(size_bytes)
        return self._of(child, size_bytes)

    def try_reserve(self, child: Hashable, size_bytes: int) -> MemoryFile | None:
        """Return a file of this size, or None where there is no room for it now."""
        self._sort()
        return self._of(child, size_bytes) if self.budget.try_reserve(size_bytes) else None

    def lend(self, child: Hashable, memory: MemoryFile) -> NDArray[np.uint8]:
        """Return what a window shows. Whoever has it gives its bytes back to the budget once nobody needs them."""
        return memory.lend(partial(self._comes_back, child))

    def drop(self, memory: MemoryFile) -> None:
        """Let go of a file that is not lent, and of its bytes."""
        memory.close()
        self.budget.release(memory.size_bytes)

    def _of(self, child: Hashable, size_bytes: int) -> MemoryFile:
        """Return a file for bytes that are reserved."""
        spare = self._spare[child]
        at = next((at for at in reversed(range(len(spare))) if spare[at].size_bytes == size_bytes), None)
        if at is not None:
            self.spare_bytes -= size_bytes
            return spare.pop(at)
        if self._free_bytes < 0:
            for each in self._spare.values():
                self._drop(each)
        try:
            return MemoryFile("captiond-window", size_bytes)
        except BaseException:
            self.budget.release(size_bytes)
            raise

    @property
    def _free_bytes(self) -> int:
        return self.budget.limit_bytes - self.budget.held_bytes - self.spare_bytes

    def _comes_back(self, child: Hashable, memory: MemoryFile) -> None:
        if child in self._runs:
            self._back.append((child, memory))
        else:
            memory.close()

    def _sort(self) -> None:
        """Keep what has come back, where there is room for it."""
        while self._back:
            child, memory = self._back.popleft()
            spare = self._spare[child]
            is_wanted = child in self._runs and memory.descriptor >= 0 and len(spare) < _MOST_SPARE
            if is_wanted and memory.size_bytes <= self._free_bytes:
                spare.append(memory)
                self.spare_bytes += memory.size_bytes
            else:
                memory.close()

    def _forget(self, child: Hashable) -> None:
        if self._runs[child] <= 0:
            del self._runs[child]
            self._sort()
            self._drop(self._spare.pop(child, []))

    def _drop(self, spare: list[MemoryFile]) -> None:
        while spare:
            memory = spare.pop()
            memory.close()
            self.spare_bytes -= memory.size_bytes
