"""The types that every part of captiond shares, and the three protocols of connectors.

    Source --Delivery(Clip)--> sampler --FrameSet(Window)--> engine --Caption--> Route.publish(Progress)
      ^                                                                             |
      +------------------ position: the first window that is not durable <----------+

A :class:`Source` yields deliveries, a :class:`Sink` makes captions durable, and a :class:`Route` made of the two is the
only way to move a position: when ``await route.publish(progress)`` returns, the captions **and** the position are
durable. A delivery that never published its ``last`` progress is delivered again.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Protocol

from connectors.captions import Attempt as Attempt
from connectors.captions import Caption as Caption
from connectors.captions import CaptionStatus as CaptionStatus
from connectors.captions import FramesShown as FramesShown
from connectors.captions import Missing as Missing
from connectors.captions import SameAs as SameAs
from connectors.captions import StreamWindow as StreamWindow
from connectors.captions import TokenLogprob as TokenLogprob
from connectors.captions import Usage as Usage
from connectors.captions import WindowSpan as WindowSpan
from connectors.errors import Poison
from connectors.media.protocols import Media


def clip_id_of(*identity: str) -> str:
    """Return the id of a clip from what makes it the same clip: 32 hexadecimal digits."""
    return hashlib.sha256(os.fsencode("\x1f".join(identity))).hexdigest()[:32]


PROMPT_FROM, SENDER = "prompt_from", "sender"
"""The attribute that says whose a clip's prompt is, and its value where a sender wrote it: such text is data."""

TOPICS_PROMPT = "topics_prompt"
"""The attribute of the operator's own question for what a clip came in, where a sender has another."""

ATTRIBUTE = "attribute."
"""The beginning of the names of attributes that a sender chose, so that none is taken for another."""


@dataclass(frozen=True, slots=True)
class Unasked:
    """Why a clip has nothing that a model could be asked about, and how its windows end instead."""

    status: CaptionStatus
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Clip:
    """One video or image on its way through the program.

    ``clip_id`` is the same at every delivery of the same clip. ``received_ns`` is wall time in nanoseconds since the
    epoch. ``attributes`` are what came with the clip: ``prompt`` and whose it is, trace context, and the like.

    A clip with a ``span_ns`` has one window, this half-open span of its media from the first frame on; what comes
    before it is there for the decoder alone. Where no frame begins in the span, or where most of a stream's window is
    missing and the rest is damaged, ``when_empty`` says how the window ends. ``stream`` says which window of a stream
    the clip is, and a clip that is ``unasked`` ends without its media being opened.
    """

    clip_id: str
    source: str
    media: Media
    received_ns: int
    attributes: Mapping[str, str] = field(default_factory=dict)
    span_ns: tuple[int, int] | None = None
    stream: StreamWindow | None = None
    unasked: Unasked | None = None
    when_empty: Unasked | None = None


class Quarantine(IntEnum):
    """How a clip is treated that was in flight when an engine died, or the program ended unforeseen."""

    NONE = 0  # it was not
    ALONE = 1  # it was: it runs with nothing else in flight
    REJECT = 2  # that happened again while it ran alone

    @classmethod
    def after(cls, deaths: int) -> "Quarantine":
        """Return how a clip is treated with which that happened so often."""
        return cls(min(max(deaths, 0), cls.REJECT))

    def raised(self) -> "Quarantine":
        """Return the next step."""
        return Quarantine.after(self + 1)


@dataclass(frozen=True, slots=True)
class ClipPosition:
    """Where an unfinished clip goes on: what a source keeps of it.

    ``next_window`` is the first that is not durable yet, while ``plan_hash`` fits the running configuration's plan.
    ``before`` are captions of windows before it, where whoever keeps the position keeps captions too.
    """

    next_window: int = 0
    plan_hash: str | None = None
    quarantine: Quarantine = Quarantine.NONE
    before: Sequence[Caption] = field(default=(), repr=False, compare=False)

    def moved(self, next_window: int, plan_hash: str | None) -> "ClipPosition":
        """Return the position at another window; the quarantine stays."""
        return replace(self, next_window=next_window, plan_hash=plan_hash, before=())

    def quarantined(self) -> "ClipPosition":
        """Return the position with its quarantine raised by a step."""
        return replace(self, quarantine=self.quarantine.raised())


@dataclass(frozen=True, slots=True)
class Delivery:
    """A clip, handed out once, and where to go on with it. Nobody but the source looks into ``handle``."""

    clip: Clip
    position: ClipPosition = ClipPosition()
    handle: object = field(default=None, repr=False, compare=False)

    def resumed(self, at: ClipPosition) -> "Delivery":
        """Return the delivery at another window; its quarantine stays."""
        moved = self.position.moved(at.next_window, at.plan_hash)
        return replace(self, position=replace(moved, before=at.before))


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a clip could not be captioned further. ``detail`` holds no path of the machine and no stack trace."""

    clip_id: str
    source: str
    reason: str
    detail: str
    origin: str
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """What became of the next windows of a delivery.

    ``captions`` are those of consecutive windows and end at ``next_window - 1``; each window has as many as the clip is
    asked questions, side by side. With ``last`` the clip is finished: after its ``rejection`` where there is one, else
    with the captions of each of its windows. ``plan_hash`` names the plan that the indices belong to; where it differs
    from the delivery's, what an earlier plan wrote is replaced.
    """

    delivery: Delivery
    captions: Sequence[Caption]
    next_window: int
    plan_hash: str
    last: bool = False
    rejection: Rejection | None = None

    def __post_init__(self) -> None:
        indices = [caption.window.index for caption in self.captions]
        each = len(indices) // len(set(indices)) if indices else 1
        first = self.next_window - len(indices) // each
        if indices != [index for index in range(first, self.next_window) for _ in range(each)]:
            raise ValueError(f"captions of windows {indices} do not end at window {self.next_window}")
        if self.rejection is not None and not self.last:
            raise ValueError("a rejection ends its clip")

    @classmethod
    def rejected(
        cls, delivery: Delivery, fault: Poison, *, next_window: int, plan_hash: str, attempts: int = 1
    ) -> "Progress":
        """Return the last progress of a clip that can't be read or described further."""
        clip = delivery.clip
        rejection = Rejection(clip.clip_id, clip.source, fault.reason, fault.detail, fault.origin, attempts)
        return cls(delivery, (), next_window, plan_hash, last=True, rejection=rejection)


@dataclass(frozen=True, slots=True)
class StreamReport:
    """The state of a live stream: whether it is connected, since when, and why not, for people.

    What is recorded and has no message yet is ``lag_windows`` windows, and ``lag_ns`` of the wall clock.
    """

    connected: bool
    since_ns: int
    why: str = ""
    lag_windows: int = 0
    lag_ns: int = 0


class Reporting(Protocol):
    """What sources, sinks and routes say of themselves, as it is now. A class that inherits says nothing by itself."""

    @property
    def waiting_for(self) -> str:
        """What is waited for now, for people; empty when nothing is."""
        return ""

    @property
    def counters(self) -> Mapping[str, int]:
        """What was counted since the start, by event."""
        return {}

    @property
    def lag(self) -> Mapping[tuple[str, str], int]:
        """How many clips wait to be handed out, by topic and partition; both are empty where there are none."""
        return {}

    @property
    def held_bytes(self) -> int:
        """Encoded bytes that are held in memory or in the spool."""
        return 0

    @property
    def stream(self) -> StreamReport | None:
        """The state of the live stream that it reads; None where it reads none."""
        return None


class Source(Reporting, Protocol):
    """Where clips come from. Only a route calls :meth:`settle`."""

    name: str

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield each clip once. Ends after :meth:`drain`, or at the end of what was there when asked ``once``.

        Never yields a clip again that is still in flight, and never loses one that was yielded: what is not settled
        with ``last`` when the program ends is delivered again by the next one.
        """

    async def settle(self, progress: Progress) -> None:
        """Make ``progress.next_window`` the durable position; with ``last``, finish the clip. Idempotent."""

    async def quarantine(self, delivery: Delivery) -> None:
        """Raise the clip's quarantine by a step, durably: before an end with a dead engine, or after another end."""

    async def drain(self) -> None:
        """Yield nothing more. What was yielded can still be settled."""

    async def close(self) -> None:
        """Give unfinished clips back so that any daemon may take them up, then let go of the transport."""


class Sink(Reporting, Protocol):
    """Where captions and rejections go."""

    async def write(self, progress: Progress) -> None:
        """Write the captions and the rejection; they are durable when this returns. Waits out an outage."""

    async def close(self) -> None:
        """Flush and let go."""


class Route(Reporting, Protocol):
    """A source and the sink, and the one acknowledgement between them."""

    name: str

    async def begin(self) -> None:
        """Begin what can't wait until clips can be captioned, such as recording a stream; most routes have nothing."""

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield the source's deliveries, each with its durable position."""

    async def publish(self, progress: Progress) -> None:
        """Return when the captions, the rejection and the position are durable, in this order or at once."""

    async def quarantine(self, delivery: Delivery) -> None: ...

    async def drain(self) -> None: ...

    async def close(self) -> None:
        """Close the source. The sink, shared between routes, is closed by whoever made it."""
