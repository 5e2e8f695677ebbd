"""The reorder buffer: windows are described in any order and handed out in window order."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from connectors.contract import Caption
from connectors.errors import Poison, Transient


@dataclass(frozen=True, slots=True)
class Batch:
    """Captions of consecutive windows. Nothing comes after the ``last`` batch, which carries what ended the clip."""

    captions: list[Caption]
    fault: Poison | Transient | None = None
    last: bool = False


class ReorderBuffer:
    """The requests of one clip, in window order, of which at most ``windows`` come, where that is known."""

    def __init__(self, windows: int | None) -> None:
        self._left = -1 if windows is None else windows
        self._requests: deque[asyncio.Task[list[Caption]]] = deque()
        self._ended = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    def put(self, request: "asyncio.Task[list[Caption]]") -> None:
        """Add the request of the next window."""
        self._requests.append(request)
        request.add_done_callback(self._done)

    def _done(self, request: "asyncio.Task[list[Caption]]") -> None:
        if self._requests and self._requests[0] is request:
            self._changed.set()

    @property
    def is_empty(self) -> bool:
        """Whether no request is in flight, or waits to be handed out."""
        return not self._requests

    def end(self, error: Exception | None = None) -> None:
        """Say that no further window comes, and what is the reason if it is not the clip's end."""
        self._ended, self._error = True, error
        self._changed.set()

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield the captions that are done at the head; the last batch also carries the fault of the window after them.

        A batch waits for the first window in line and takes along those behind it that are done too. The one that
        reaches the last window waits for :meth:`end`, so that it is the last batch. The feeder's fault is the last
        item; any other error, such as :class:`connectors.errors.EngineLost`, is raised.
        """
        while True:
            await self._until(lambda: self._requests[0].done() if self._requests else self._ended)
            captions, fault = self._take_done()
            if fault is None and self._left == 0:
                await self._until(lambda: self._ended)
            if fault is None and self._ended and not self._requests:
                yield Batch(captions, self._fault_at_the_end(), last=True)
                return
            yield Batch(captions, fault, last=fault is not None)
            if fault is not None:
                return

    def _take_done(self) -> tuple[list[Caption], Poison | Transient | None]:
        captions: list[Caption] = []
        while self._requests and self._requests[0].done():
            try:
                captions += self._requests.popleft().result()
            except (Poison, Transient) as fault:
                return captions, fault
            self._left -= 1
        return captions, None

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _fault_at_the_end(self) -> Poison | Transient | None:
        if self._error is not None and not isinstance(self._error, Poison | Transient):
            raise self._error
        return self._error

    async def abandon(self) -> None:
        """Abort what is still in flight."""
        if not self._requests:
            return
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        self._requests.clear()
