"""A source and sinks in memory, for tests and for programs that embed captiond. They keep the contract's promises.

:class:`MemoryInbox` and :class:`MemorySink` stand for the disk or the broker: they outlive the :class:`MemorySource`
that works on them, so a source made anew after an end without a close finds what its predecessor left. The other sinks
wrap one and are named after what goes wrong in them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

from connectors.contract import Caption, Clip, ClipPosition, Delivery, Progress, Rejection, Reporting, clip_id_of
from connectors.folder.route import RecordingSink
from connectors.media.bytes import BytesMedia
from connectors.messages.codec import caption_from_json, caption_to_json


@dataclass(slots=True)
class _Held:
    """A clip that is not finished."""

    name: str
    value: bytes = field(repr=False)
    attributes: Mapping[str, str]
    position: ClipPosition = field(default_factory=ClipPosition)
    in_flight: bool = False


class MemoryInbox:
    """Clips and faults, in order, and how each clip ended."""

    def __init__(self) -> None:
        self._held: dict[str, _Held | Exception] = {}
        self._changed = asyncio.Event()
        self.ended: dict[str, Progress] = {}  # by name

    def put(self, name: str, value: bytes = b"clip", **attributes: str) -> None:
        """Add a clip."""
        self._held[name] = _Held(name, value, attributes)
        self._changed.set()

    def fail(self, name: str, fault: Exception) -> None:
        """Make a source that comes to this place raise ``fault``, once."""
        self._held[name] = fault
        self._changed.set()

    @property
    def unfinished(self) -> list[str]:
        """The names of clips that are not finished."""
        return [name for name, held in self._held.items() if isinstance(held, _Held)]


class MemorySource(Reporting):
    """A :class:`connectors.contract.Source` over an inbox in memory."""

    def __init__(self, name: str, inbox: MemoryInbox, *, once: bool = False) -> None:
        self.name = name
        self._inbox, self._once, self._draining = inbox, once, False
        self._mine: dict[str, str] = {}  # names of clips by clip_id
        for held in inbox._held.values():
            if isinstance(held, _Held):
                held.in_flight = False  # whoever had it is gone

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield each clip that is not in flight, and with a fault at its turn raise it."""
        while not self._draining:
            self._inbox._changed.clear()
            while (found := self._next()) is not None:
                yield found
            if self._once:
                return
            if not self._draining:
                await self._inbox._changed.wait()

    def _next(self) -> Delivery | None:
        if self._draining:
            return None
        for name, held in self._inbox._held.items():
            if isinstance(held, Exception):
                del self._inbox._held[name]
                raise held
            if not held.in_flight:
                return self._deliver(held)
        return None

    def _deliver(self, held: _Held) -> Delivery:
        held.in_flight = True
        clip_id = clip_id_of(self.name, held.name)
        self._mine[clip_id] = held.name
        clip = Clip(clip_id, self.name, BytesMedia(held.name, held.value), time.time_ns(), held.attributes)
        return Delivery(clip, held.position)

    async def settle(self, progress: Progress) -> None:
        name = self._mine.get(progress.delivery.clip.clip_id)
        held = None if name is None else self._inbox._held.get(name)
        if name is None or not isinstance(held, _Held):
            return
        held.position = held.position.moved(progress.next_window, progress.plan_hash)
        if progress.last:
            self._inbox.ended[name] = progress
            del self._inbox._held[name]

    async def quarantine(self, delivery: Delivery) -> None:
        held = self._inbox._held.get(delivery.clip.media.name)
        if isinstance(held, _Held):
            held.position = held.position.quarantined()

    async def drain(self) -> None:
        self._draining = True
        self._inbox._changed.set()

    async def close(self) -> None:
        await self.drain()
        for name in self._mine.values():
            held = self._inbox._held.get(name)
            if isinstance(held, _Held):
                held.in_flight = False


class MemorySink(Reporting):
    """Keeps captions and rejections by clip, as a reader of their messages gets them."""

    def __init__(self) -> None:
        self.captions: dict[str, list[Caption]] = {}
        self.rejections: dict[str, Rejection] = {}

    async def position(self, clip: Clip) -> ClipPosition:
        """Return the first window of a clip that is not here, and the plan it belongs to."""
        held = self.captions.get(clip.clip_id)
        if not held:
            return ClipPosition()
        return ClipPosition(held[-1].window.index + 1, held[-1].plan_hash, before=tuple(held))

    async def write(self, progress: Progress) -> None:
        """Keep the progress; what another plan wrote is replaced."""
        clip_id = progress.delivery.clip.clip_id
        held = self.captions.setdefault(clip_id, [])
        if held and held[-1].plan_hash != progress.plan_hash:
            held.clear()
        known = {caption.window.index for caption in held}
        new = (caption for caption in progress.captions if caption.window.index not in known)
        held += [caption_from_json(caption_to_json(caption)) for caption in new]
        self.rejections.pop(clip_id, None)
        if progress.rejection is not None:
            self.rejections[clip_id] = progress.rejection

    async def close(self) -> None:
        return


class _Wrapped(Reporting):
    """A sink in front of another, to which it hands everything on."""

    def __init__(self, sink: RecordingSink) -> None:
        self._sink = sink

    async def position(self, clip: Clip) -> ClipPosition:
        return await self._sink.position(clip)

    async def write(self, progress: Progress) -> None:
        await self._sink.write(progress)

    async def close(self) -> None:
        await self._sink.close()


class BlockingSink(_Wrapped):
    """Does not answer until :meth:`release` is called. ``waiting`` is set while a write waits."""

    def __init__(self, sink: RecordingSink) -> None:
        super().__init__(sink)
        self._released, self.waiting = asyncio.Event(), asyncio.Event()

    def release(self) -> None:
        """Let every write through from now on."""
        self._released.set()

    async def write(self, progress: Progress) -> None:
        self.waiting.set()
        await self._released.wait()
        await super().write(progress)


class SlowSink(_Wrapped):
    """Takes ``delay_s`` for each write."""

    def __init__(self, sink: RecordingSink, delay_s: float) -> None:
        super().__init__(sink)
        self._delay_s = delay_s

    async def write(self, progress: Progress) -> None:
        await asyncio.sleep(self._delay_s)
        await super().write(progress)


class FailingSink(_Wrapped):
    """Raises the next of ``faults`` at each write, before anything is written; None lets one through."""

    def __init__(self, sink: RecordingSink, faults: Iterable[Exception | None]) -> None:
        super().__init__(sink)
        self._faults = iter(faults)

    async def write(self, progress: Progress) -> None:
        if (fault := next(self._faults, None)) is not None:
            raise fault
        await super().write(progress)
