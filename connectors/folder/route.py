"""The route of clips that are captioned into files: the clip's own ``.jsonl`` is the position."""

from collections.abc import AsyncIterator
from typing import Protocol

from connectors.contract import Clip, ClipPosition, Delivery, Progress, Sink, Source
from connectors.source_route import SourceRoute, confirm_unchanged


class RecordingSink(Sink, Protocol):
    """A sink that knows what it holds of a clip."""

    async def position(self, clip: Clip) -> ClipPosition:
        """Return the first window of a clip that is not durable, and the plan it belongs to."""
        ...


class FolderRoute(SourceRoute):
    """Publishes with one effect: what is written is the position. Each window is captioned exactly once."""

    def __init__(self, source: Source, sink: RecordingSink) -> None:
        super().__init__(source)
        self._sink = sink

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield the source's deliveries; each goes on after the last whole line of its file."""
        async for delivery in self.source.deliveries():
            yield delivery.resumed(await self._sink.position(delivery.clip))

    async def publish(self, progress: Progress) -> None:
        """Make the captions and the rejection durable, which is the position.

        0. A clip that changed while it was read is :class:`Poison`, and nothing is written.
        1. The sink writes. 2. With the last progress, the source finishes the clip. A crash between the two delivers
        the clip again at its end, and nothing is left to caption.
        """
        await confirm_unchanged(progress)  # 0
        await self._sink.write(progress)  # 1
        if progress.last:
            await self.source.settle(progress)  # 2
