"""The clips in flight, and the quarantine of those that an engine held when it died."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.contract import Delivery, Route
from daemon.clip_task import ClipTask

log = logging.getLogger(__name__)


class ClipsInFlight:
    """The clips that are worked on now.

    An engine's death is noted before their tasks are cancelled, for then no task says any more what the engine held.
    """

    def __init__(self) -> None:
        self._routes: dict[ClipTask, Route] = {}
        self._held_at_death: list[tuple[Delivery, Route]] | None = None

    @contextmanager
    def holding(self, task: ClipTask, route: Route) -> Iterator[None]:
        """Hold a clip while it is worked on."""
        self._routes[task] = route
        try:
            yield
        finally:
            del self._routes[task]

    def engine_died(self) -> None:
        """Note which clips the engine holds; only the first call counts."""
        if self._held_at_death is None:
            self._held_at_death = [(task.delivery, route) for task, route in self._routes.items() if task.in_engine]

    async def quarantine(self) -> None:
        """Make the quarantine of those clips durable, so that they run alone after the restart."""
        for delivery, route in self._held_at_death or ():
            log.warning("In flight when the engine died: it runs alone next.", extra={"clip_id": delivery.clip.clip_id})
            await route.quarantine(delivery)
