"""The source over a recording: the windows of a stream, each a clip, in their order and without holes."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from connectors.contract import (
    Clip,
    ClipPosition,
    Delivery,
    Progress,
    Quarantine,
    Reporting,
    StreamReport,
    StreamWindow,
    clip_id_of,
)
from connectors.files.durable import DiskPatience
from connectors.messages.wall_time import wall_text
from connectors.stream.grid import Grid
from connectors.stream.position import PositionFile, StreamPosition
from connectors.stream.recording import RecordedWindow, Recording
from connectors.stream.window_media import SKIPPED, WindowMedia, gap, span_in_media

log = logging.getLogger(__name__)

OnLag = Literal["wait", "thin", "skip"]

_UNREAD_PAUSE_S = 1.0


class StreamSource(Reporting):
    """A :class:`connectors.contract.Source` over a recording. Every window from the position on comes, once.

    A window that wants nothing asked comes too: as ``gap`` where nothing was recorded of it, and with ``on_lag: skip``
    as ``skipped`` where it is older than ``lag_ns`` when its turn comes. Then, too, nothing is handed out while the
    oldest window that has no message yet is older than that. With ``thin``, windows are thinned meanwhile. None is
    handed out while those that are hold ``max_bytes``.
    """

    def __init__(
        self,
        name: str,
        recording: Recording,
        grid: Grid,
        folder: Path,
        *,
        on_lag: OnLag = "wait",
        lag_ns: int = 30 * 10**9,
        max_bytes: int = 2**28,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.name = name
        self._recording, self._grid, self._on_lag, self._lag_ns = recording, grid, on_lag, lag_ns
        self._max_bytes, self._held_bytes = max_bytes, 0
        self._file, self._patience, self._now_ns = PositionFile(folder), DiskPatience(), now_ns
        self._unread = ""  # why the recording can't be read now
        self._position: StreamPosition | None = None
        self._next_index = 0  # to be handed out
        self._ended: set[int] = set()  # windows behind the position that have their messages
        self._left: set[int] = set()  # windows that were given back without a message
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._saving = asyncio.Lock()

    @property
    def position(self) -> StreamPosition:
        """The first window without a message; there is one once the source is open."""
        assert self._position is not None  # noqa: S101 - a route opens its source first
        return self._position

    @property
    def waiting_for(self) -> str:
        """An outage of the disk; a stream that is away stops nobody, and :attr:`stream` says so."""
        return self._patience.waiting_for or self._unread

    @property
    def counters(self) -> Mapping[str, int]:
        return self._recording.state.counters

    @property
    def held_bytes(self) -> int:
        """The bytes of windows that are handed out, which are in memory."""
        return self._held_bytes

    @property
    def lag(self) -> Mapping[tuple[str, str], int]:
        latest_ns = self._recording.latest_ns
        if self._position is None or latest_ns is None:
            return {}
        return {("", ""): self._grid.whole_until(self._next_index, latest_ns)}

    @property
    def stream(self) -> StreamReport:
        state, latest_ns = self._recording.state, self._recording.latest_ns
        windows = lag_ns = 0
        if self._position is not None and latest_ns is not None:
            windows = self._grid.whole_until(self._position.next_index, latest_ns)
            lag_ns = max(0, latest_ns - self._position.next_ns) if windows else 0
        return StreamReport(state.is_connected, state.since_ns, state.reason, windows, lag_ns)

    async def open(self) -> StreamPosition:
        """Begin to record, and return the position: the one that is kept, else the next whole window."""
        if self._position is None:
            await self._recording.start()
            kept = await self._patience.run(self._file.read, f"Looking for the position of {self.name}")
            if kept is None:
                at = StreamPosition(self._grid, self._grid.first_from(self._now_ns()))
            else:
                at = kept.on(self._grid)
            await self._save(at)
            self._next_index = at.next_index
        return self.position

    async def go_on_at(self, index: int) -> None:
        """Move the position to a later window, as the messages before it are known to be durable."""
        if index > self.position.next_index:
            await self._keep(lambda at: at.moved(index))
            self._next_index = max(self._next_index, index)

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield a clip for each window, once it is over and recorded, until the source is drained."""
        await self.open()
        while not self._drained.is_set():
            await self._until(lambda: self._drained.is_set() or self._held_bytes < self._max_bytes)
            if self._on_lag == "skip":
                await self._caught_up()
            index = self._next_index
            recorded = await self._recorded(index)
            if recorded is None:
                return
            self._next_index = index + 1
            yield Delivery(self._clip(index, recorded), ClipPosition(quarantine=self._quarantine_of(index)))

    async def _caught_up(self) -> None:
        """Wait while the oldest window in flight is too old already: more in flight would make all of them older."""
        await self._until(
            lambda: (
                self._drained.is_set()
                or self.position.next_index >= self._next_index
                or not self._is_late(self.position.next_index)
            )
        )

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _is_late(self, index: int) -> bool:
        latest_ns = self._recording.latest_ns
        return latest_ns is not None and latest_ns - self._grid.span(index)[1] > self._lag_ns

    async def _recorded(self, index: int) -> RecordedWindow | None:
        """Wait for a window, and for a disk that can't be read; None when the source is drained first."""
        while not self._drained.is_set():
            try:
                recorded = await self._read(index)
            except OSError as error:
                if not self._unread:
                    log.warning("The recording of %s can't be read: %s.", self.name, error.strerror or error)
                self._unread = f"the recording: {error.strerror or error}"
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._drained.wait(), _UNREAD_PAUSE_S)
            else:
                self._unread = ""
                return recorded
        return None

    async def _read(self, index: int) -> RecordedWindow | None:
        window = asyncio.ensure_future(self._recording.window(*self._grid.span(index)))
        drained = asyncio.ensure_future(self._drained.wait())
        try:
            await asyncio.wait({window, drained}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            window.cancel()
            drained.cancel()
            await asyncio.gather(window, drained, return_exceptions=True)
        if window.cancelled() or not self._drained.is_set():
            return None if window.cancelled() else window.result()
        if window.exception() is None and (media := window.result().media) is not None:
            media.close()
        return None

    def _clip(self, index: int, recorded: RecordedWindow) -> Clip:
        start_ns, end_ns = self._grid.span(index)
        missing, empty = recorded.missing, gap(recorded.missing)
        is_gap = recorded.media is None
        is_skipped = not is_gap and self._on_lag == "skip" and self._is_late(index)
        is_asked = not is_gap and not is_skipped
        thinned = is_asked and self._on_lag == "thin" and self._is_late(self.position.next_index)
        media = recorded.media
        if is_skipped and media is not None:
            media.close()
            media = None
        self._held_bytes += 0 if media is None else media.size_bytes
        unasked = SKIPPED if is_skipped else empty if is_gap else None
        return Clip(
            clip_id_of(self.name, "stream", str(start_ns), str(end_ns)),
            self.name,
            WindowMedia(wall_text(start_ns), media, partial(self._leave, index)),
            self._now_ns(),
            span_ns=span_in_media(recorded) if is_asked else None,
            stream=StreamWindow(index, start_ns, end_ns, recorded.clock, missing, thinned, recorded.arrived_ns),
            unasked=unasked,
            when_empty=empty,
        )

    def _quarantine_of(self, index: int) -> Quarantine:
        return self.position.quarantined.get(index, Quarantine.NONE)

    def _leave(self, index: int, size_bytes: int) -> None:
        """Note that nobody works on a window any more, and whether that was without a message."""
        self._held_bytes -= size_bytes
        self._changed.set()
        if index >= self.position.next_index and index not in self._ended:
            self._left.add(index)

    async def turn(self, index: int) -> None:
        """Wait until every window before this one has its message.

        Raises:
            asyncio.CancelledError: one before it was given back without a message, as at a stop: it has no turn.
        """
        await self._until(lambda: self.position.next_index >= index or any(left < index for left in self._left))
        if self.position.next_index < index:
            raise asyncio.CancelledError

    async def settle(self, progress: Progress) -> None:
        """Note that a window has its message, and move the position over all in a row that have theirs."""
        stream = progress.delivery.clip.stream
        assert stream is not None  # noqa: S101 - it hands out nothing else
        if not progress.last or stream.index < self.position.next_index:
            return
        self._ended.add(stream.index)
        before = self.position.next_index
        await self._keep(self._over_ended)
        if self.position.next_index > before:
            await self._recording.release(self.position.next_ns)

    def _over_ended(self, position: StreamPosition) -> StreamPosition:
        next_index = position.next_index
        while next_index in self._ended:
            self._ended.discard(next_index)
            next_index += 1
        return position.moved(next_index)

    async def quarantine(self, delivery: Delivery) -> None:
        stream = delivery.clip.stream
        assert stream is not None  # noqa: S101 - as above
        index = stream.index
        await self._keep(lambda at: at.quarantining(index, self._quarantine_of(index).raised()))

    async def _keep(self, change: Callable[[StreamPosition], StreamPosition]) -> None:
        """Change the position, one change after the other; it is durable when this returns."""
        async with self._saving:
            before = self.position
            position = change(before)
            if position != before:
                await self._save(position)

    async def _save(self, position: StreamPosition) -> None:
        await self._patience.run(lambda: self._file.write(position), f"Keeping the position of {self.name}")
        self._position = position
        self._changed.set()

    async def drain(self) -> None:
        self._drained.set()
        self._changed.set()

    async def close(self) -> None:
        """End the recorder, unless it records on. What has no message comes again from the recording."""
        await self.drain()
        await self._recording.close()
