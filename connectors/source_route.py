"""A route's common part: deliveries, quarantine, the drain, the end and the report are its source's."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from connectors.contract import Delivery, Progress, Reporting, Source
from connectors.media.protocols import ChangeableMedia


class SourceRoute(Reporting):
    """A route but for its :meth:`connectors.contract.Route.publish`."""

    def __init__(self, source: Source) -> None:
        self.name, self.source = source.name, source

    @property
    def waiting_for(self) -> str:
        """See :class:`connectors.contract.Reporting`."""
        return self.source.waiting_for

    @property
    def counters(self) -> Mapping[str, int]:
        """See :class:`connectors.contract.Reporting`."""
        return self.source.counters

    @property
    def lag(self) -> Mapping[tuple[str, str], int]:
        """See :class:`connectors.contract.Reporting`."""
        return self.source.lag

    @property
    def held_bytes(self) -> int:
        """See :class:`connectors.contract.Reporting`."""
        return self.source.held_bytes

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield the source's deliveries; each carries the position that the source kept."""
        return self.source.deliveries()

    async def quarantine(self, delivery: Delivery) -> None:
        """See :class:`connectors.contract.Source`."""
        await self.source.quarantine(delivery)

    async def drain(self) -> None:
        """See :class:`connectors.contract.Source`."""
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
