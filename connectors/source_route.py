"""The common part of routes: deliveries, quarantine, the drain, the end and the report are their source's."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from connectors.contract import Delivery, Progress, Reporting, Source, StreamReport
from connectors.media.protocols import ChangeableMedia


class SourceRoute(Reporting):
    """A route but for its :meth:`connectors.contract.Route.publish`."""

    def __init__(self, source: Source) -> None:
        self.name, self.source = source.name, source

    @property
    def waiting_for(self) -> str:
        return self.source.waiting_for

    @property
    def counters(self) -> Mapping[str, int]:
        return self.source.counters

    @property
    def lag(self) -> Mapping[tuple[str, str], int]:
        return self.source.lag

    @property
    def held_bytes(self) -> int:
        return self.source.held_bytes

    @property
    def stream(self) -> StreamReport | None:
        return self.source.stream

    async def begin(self) -> None:
        """Begin nothing: what lies in a source waits there."""

    def deliveries(self) -> AsyncIterator[Delivery]:
        return self.source.deliveries()

    async def quarantine(self, delivery: Delivery) -> None:
        await self.source.quarantine(delivery)

    async def drain(self) -> None:
        await self.source.drain()

    async def close(self) -> None:
        """Close the source; a sink is closed by whoever made it."""
        await self.source.close()


async def confirm_unchanged(progress: Progress) -> None:
    """Raise :class:`Poison` where a clip is about to end well but its file changed while it was read.

    Every route calls this before a progress has effects; the pipeline then publishes the rejection instead.
    """
    media = progress.delivery.clip.media
    if progress.last and progress.rejection is None and isinstance(media, ChangeableMedia):
        await asyncio.to_thread(media.verify)
