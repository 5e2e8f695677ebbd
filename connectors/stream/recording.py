"""A recording as the rest of the source sees it: windows of the wall clock, each with its media and what is missing.

Times are nanoseconds since the epoch, and every stretch of time is half open.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from connectors.contract import Missing
from connectors.media.protocols import Media

Clock = Literal["sender", "arrival"]
"""Whose clock times are of: the sender's, which came with the stream, or this machine's when packets arrived."""

MissingReason = Literal["away", "silent", "discarded", "not_recording", "format_changed"]
"""Why nothing is there: no connection; connected, and nothing came; thrown away unread for want of room; no recorder
ran; or it is recorded in another codec or size than the rest of the window."""


@dataclass(frozen=True, slots=True)
class RecordedWindow:
    """What was recorded of a stretch of the wall clock.

    ``media`` are its segments read as one file, from the key frame at or before its start; None where nothing was
    recorded. ``span_ns`` is where the window lies in that media, counted from the media's first frame; it may begin
    before that frame and end behind the last one where something is missing. ``arrived_ns`` is when the last packet of
    it arrived, by this machine's clock. Whoever asked for the window closes its media.
    """

    start_ns: int
    exclusive_end_ns: int
    clock: Clock
    media: Media | None
    span_ns: tuple[int, int] | None
    missing: tuple[Missing, ...]
    arrived_ns: int


@dataclass(frozen=True, slots=True)
class StreamState:
    """What is known of a stream now. ``reason`` says in a few words why it is away; it names no user and password."""

    is_connected: bool
    since_ns: int
    reason: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)  # by event, since the start


class Recording(Protocol):
    """A stream's recording, which a recorder process writes."""

    @property
    def name(self) -> str:
        """The source's name."""
        ...

    @property
    def first_ns(self) -> int | None:
        """The oldest time that can be read; None while there is none."""
        ...

    @property
    def latest_ns(self) -> int | None:
        """The time up to which everything is recorded or known to be missing; None while nothing is known."""
        ...

    @property
    def state(self) -> StreamState: ...

    async def window(self, start_ns: int, exclusive_end_ns: int) -> RecordedWindow:
        """Wait until everything before ``exclusive_end_ns`` is known, and return what was recorded of the window."""
        ...

    async def release(self, until_ns: int) -> None:
        """Say that what lies before has its messages, and may be deleted; what a crash forgets stays longer."""
        ...

    async def start(self) -> None:
        """Read what was recorded before, and start the recorder."""
        ...

    async def close(self) -> None:
        """End the recorder, unless it records on, and wake whoever waits with :class:`asyncio.CancelledError`."""
        ...
