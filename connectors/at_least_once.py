"""The route for every pair of source and sink, at least once: the output is made durable first, then the position."""

from connectors.contract import Progress, Sink, Source
from connectors.source_route import SourceRoute, confirm_unchanged


class AtLeastOnceRoute(SourceRoute):
    """Publishes to the sink, then settles with the source, which keeps the position."""

    def __init__(self, source: Source, sink: Sink) -> None:
        super().__init__(source)
        self._sink = sink

    async def publish(self, progress: Progress) -> None:
        """Make the captions, the rejection and the position durable.

        0. A clip that changed while it was read is :class:`Poison`, and nothing is written.
        1. The sink writes. 2. The source moves the position. A crash between the two repeats step 1 with the same ids.
        """
        await confirm_unchanged(progress)  # 0
        await self._sink.write(progress)  # 1
        await self.source.settle(progress)  # 2
