"""Windows in flight, taken out in the order they were put in, whichever is done first."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from connectors.contract import Caption
from connectors.errors import Poison, Transient

CaptionTask = asyncio.Task[Caption]


class InOrder:
    """A line of requests of one clip. :meth:`heads` yields what is done at its head."""

    def __init__(self) -> None:
        self._line: deque[CaptionTask] = deque()
        self._ended = False
        self._changed = asyncio.Event()

    def put(self, task: CaptionTask) -> None:
        """Add the request of the next window."""
        self._line.append(task)
        self._changed.set()

    def end(self) -> None:
        """Say that no further window comes."""
        self._ended = True
        self._changed.set()

    async def heads(self) -> AsyncIterator[tuple[list[Caption], Poison | Transient | None]]:
        """Yield the captions done at the head, in window order, with the fault of the window after them.

        Waits for the first window in line and takes along whichever follow it and are done too. Any other error of a
        request, such as :class:`EngineLost`, is raised.
        """
        while True:
            while not self._line and not self._ended:
                self._changed.clear()
                await self._changed.wait()
            if not self._line:
                return
            await asyncio.wait([self._line[0]])
            captions: list[Caption] = []
            fault: Poison | Transient | None = None
            while self._line and self._line[0].done() and fault is None:
                try:
                    captions.append(self._line.popleft().result())
                except (Poison, Transient) as error:
                    fault = error
            yield captions, fault

    async def abandon(self) -> None:
        """Abort what is still in flight."""
        for task in self._line:
            task.cancel()
        await asyncio.gather(*self._line, return_exceptions=True)
        self._line.clear()
