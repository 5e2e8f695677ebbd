"""The route of a stream: its windows get their messages in their order, whatever order they are described in."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Protocol, runtime_checkable

from connectors.contract import Caption, Delivery, Progress, Sink
from connectors.source_route import SourceRoute
from connectors.stream.grid import Grid
from connectors.stream.source import StreamSource


@runtime_checkable
class ReadableSink(Protocol):
    """A sink that knows what it holds of a stream."""

    async def next_index(self, grid: Grid, index: int) -> int:
        """Return the first window, from ``index`` on, that is not durable."""
        ...


class StreamRoute(SourceRoute):
    """Publishes to the sink, then moves the source's position; with a sink that can be read, exactly once."""

    source: StreamSource

    def __init__(self, source: StreamSource, sink: Sink) -> None:
        super().__init__(source)
        self._sink = sink

    @property
    def waiting_for(self) -> str:
        """What the source waits for, else the sink where it is this route's own."""
        own = self._sink.waiting_for if isinstance(self._sink, ReadableSink) else ""
        return self.source.waiting_for or own

    async def begin(self) -> None:
        """Begin to record: what comes while a model is loaded is captioned once it is."""
        await self.source.open()

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield the source's deliveries, from the first window that the sink does not hold."""
        at = await self.source.open()
        if isinstance(self._sink, ReadableSink):
            await self.source.go_on_at(await self._sink.next_index(at.grid, at.next_index))
        async for delivery in self.source.deliveries():
            yield delivery

    async def publish(self, progress: Progress) -> None:
        """Make a window's captions durable, when every window before it has its own.

        1. Its turn comes. 2. The sink writes. 3. The source moves the position. A crash between 2 and 3 repeats 2 with
        the same ids, but where the sink can be read.
        """
        stream = progress.delivery.clip.stream
        assert stream is not None  # noqa: S101 - its source hands out nothing else
        begun_s = time.monotonic()
        await self.source.turn(stream.index)  # 1
        waited_ms = (time.monotonic() - begun_s) * 1e3
        await self._sink.write(_timed(progress, stream.arrived_ns, waited_ms))  # 2
        await self.source.settle(progress)  # 3


def _timed(progress: Progress, arrived_ns: int, waited_ms: float) -> Progress:
    """Return a progress whose captions say how long they waited for their turn, and how old the window is by now."""
    if progress.delivery.clip.unasked is not None or not arrived_ns:
        return progress
    since_ms = max(0.0, (time.time_ns() - arrived_ns) / 1e6)

    def timed(caption: Caption) -> Caption:
        more = {"order": round(waited_ms, 3), "since_arrival": round(since_ms, 3)}
        return replace(caption, timing_ms={**caption.timing_ms, **more})

    return replace(progress, captions=[timed(caption) for caption in progress.captions])
