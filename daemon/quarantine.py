"""The clips in flight, and the quarantine of those that were so when an engine died or the program ended unforeseen.

An engine's death is seen by this program, and the sources keep it. An end of the program itself is seen by the next
one, in the file of the clips in flight: when such a clip comes again, its source keeps that it runs alone. One that
runs alone when the program ends again is rejected.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from connectors.contract import Clip, Delivery, Quarantine, Route
from connectors.errors import Fatal, Poison, Reason
from daemon.clip_task import ClipTask
from daemon.in_flight_file import InFlightFile
from daemon.in_flight_records import State

log = logging.getLogger(__name__)

_NO_BUG = (Fatal, asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)
_KILLED_TWICE = (
    "the program ended unforeseen twice with this clip alone in flight, or by an error in its own task; to try it "
    "again, put it back into its folder, or send its dead letter with captiond replay"
)


class ClipsInFlight:
    """The clips that are worked on now; without a ``file`` their ends are not known to the next program.

    An engine's death is noted before their tasks are cancelled, for then no task says any more what the engine held.
    """

    def __init__(self, file: InFlightFile | None = None) -> None:
        self._file = file
        self._routes: dict[ClipTask, Route] = {}
        self._held_at_death: list[tuple[Delivery, Route]] | None = None

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Keep the file while the main loop runs."""
        if self._file is not None:
            self._file.open()
        try:
            yield
        finally:
            if self._file is not None:
                self._file.close()

    @contextmanager
    def recording(self, clip: Clip) -> Iterator[None]:
        """Record a clip as long as it is in flight, and as to blame where what happens to it ends the program."""
        if self._file is None:
            yield
            return
        number, leave = self._file.enter(clip), self._file.leave
        try:
            yield
        except _NO_BUG:
            raise
        except BaseException:
            leave = self._file.blame
            raise
        finally:
            leave(number)

    @contextmanager
    def holding(self, task: ClipTask, route: Route) -> Iterator[None]:
        """Hold a clip while it is worked on."""
        self._routes[task] = route
        try:
            yield
        finally:
            del self._routes[task]

    async def recalled(self, delivery: Delivery, route: Route) -> Delivery:
        """Return a delivery with the quarantine that an earlier end of the program asks for, durable in its source.

        Whoever was in flight runs alone, once more if need be. Whoever was alone twice is to be rejected; what counts
        towards that stays in the file until the clip gets on or ends.
        """
        state, position = self._ended(delivery.clip), delivery.position
        if self._file is None or state is None:
            return delivery
        if state is State.TWICE:
            return replace(delivery, position=replace(position, quarantine=Quarantine.REJECT))
        if state is State.BESIDE:
            self._file.forget(delivery.clip)
        if position.quarantine is not Quarantine.NONE:
            return delivery
        log.warning("In flight when the program ended: it runs alone next.", extra={"clip_id": delivery.clip.clip_id})
        await route.quarantine(delivery)
        return replace(delivery, position=position.quarantined())

    def refuse_killer(self, delivery: Delivery) -> None:
        """Raise :class:`Poison` for a clip with which the engine died, or the program ended, once too often."""
        if delivery.position.quarantine is not Quarantine.REJECT:
            return
        if self._ended(delivery.clip) is State.TWICE:
            raise Poison(Reason.KILLER, _KILLED_TWICE, origin="program")
        raise Poison(Reason.ENGINE_KILLER, "the engine died twice with this clip, then alone", origin="engine")

    def _ended(self, clip: Clip) -> State | None:
        return None if self._file is None else self._file.ended(clip)

    def advanced(self, delivery: Delivery) -> None:
        """Note that something of a clip became durable: it is not what the program ends at."""
        if self._file is not None:
            self._file.advance(delivery.clip)

    def ended(self, delivery: Delivery) -> None:
        """Forget what counted against a clip whose end is durable."""
        if self._file is not None:
            self._file.forget(delivery.clip)

    def stopping(self) -> None:
        """Note that the program is about to end for a reason that is known."""
        if self._file is not None:
            self._file.stopping()

    def engine_died(self) -> None:
        """Note which clips the engine holds; only the first call counts."""
        if self._held_at_death is None:
            self.stopping()
            self._held_at_death = [(task.delivery, route) for task, route in self._routes.items() if task.in_engine]

    async def quarantine(self) -> None:
        """Make the quarantine of those clips durable, so that they run alone after the restart."""
        for delivery, route in self._held_at_death or ():
            log.warning("In flight when the engine died: it runs alone next.", extra={"clip_id": delivery.clip.clip_id})
            await route.quarantine(delivery)
