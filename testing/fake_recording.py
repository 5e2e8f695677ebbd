"""A recording of a stream without a stream: a test says what was recorded, and how late it is."""

import asyncio
from collections.abc import Mapping

from connectors.contract import Missing
from connectors.media.bytes import BytesMedia
from connectors.stream.recording import MissingReason, RecordedWindow, StreamState

NS = 1_000_000_000


class FakeRecording:
    """A :class:`connectors.stream.recording.Recording` of windows that a test puts into it.

    What was put outlives the object where ``kept`` is handed on, as a recording on disk does. A window in which
    nothing was put is one of which nothing was recorded.
    """

    def __init__(self, name: str = "cam", kept: dict[int, bytes] | None = None, latest_ns: int | None = None) -> None:
        self.name = name
        self.kept = {} if kept is None else kept  # by the window's start
        self.reasons: dict[int, MissingReason] = {}
        self.spans: dict[int, tuple[int, int]] = {}
        self.missing: dict[int, tuple[Missing, ...]] = {}
        self.first_ns: int | None = None
        self.latest_ns = latest_ns
        self.released_ns = 0
        self.is_open = False
        self.state = StreamState(True, 0)
        self._changed = asyncio.Event()

    def put(
        self, start_ns: int, media: bytes, span_ns: tuple[int, int] | None = None, missing: tuple[Missing, ...] = ()
    ) -> None:
        """Record the window that begins then."""
        self.kept[start_ns], self.missing[start_ns] = media, missing
        if span_ns is not None:
            self.spans[start_ns] = span_ns

    def know(self, until_ns: int) -> None:
        """Let everything before a time be known."""
        self.latest_ns = until_ns
        self._changed.set()

    def away(self, since_ns: int, why: str, counters: Mapping[str, int] | None = None) -> None:
        """Lose the connection."""
        self.state = StreamState(False, since_ns, why, counters or {})

    async def window(self, start_ns: int, exclusive_end_ns: int) -> RecordedWindow:
        while self.latest_ns is None or self.latest_ns < exclusive_end_ns:
            self._changed.clear()
            await self._changed.wait()
        media = self.kept.get(start_ns)
        if media is None:
            missing = (Missing(start_ns, exclusive_end_ns, self.reasons.get(start_ns, "away")),)
            return RecordedWindow(start_ns, exclusive_end_ns, "arrival", None, None, missing, exclusive_end_ns)
        span_ns = self.spans.get(start_ns, (0, exclusive_end_ns - start_ns))
        opened, missing = BytesMedia(str(start_ns), media), self.missing.get(start_ns, ())
        return RecordedWindow(start_ns, exclusive_end_ns, "arrival", opened, span_ns, missing, exclusive_end_ns)

    async def release(self, until_ns: int) -> None:
        self.released_ns = until_ns

    async def start(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False
