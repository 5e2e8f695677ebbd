"""The events of a page that is open: how the daemon is, every two seconds, and what is published meanwhile."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from daemon.feed.history import EVERY_S, History, Point
from daemon.feed.recent import Feed, Reader
from daemon.feed.shelf import Shelf
from daemon.service.health import Health
from daemon.web.bottleneck import bottleneck

log = logging.getLogger(__name__)

STATE_S = 2.0
_FLUSH_S = 0.25  # between two writes to one reader: what came meanwhile goes together
_MOST_BYTES = 128 * 1024  # of one write, and with it what a reader that does not read holds
_PICTURES = 20  # the newest entries, which come with theirs: what a screen shows
_SHELVE_S = 1.0


class Live:
    """Watches a daemon's health beside the main loop, and keeps what was published on the shelf."""

    def __init__(self, health: Health, feed: Feed, shelf: Shelf | None = None) -> None:
        self.health, self.feed, self.history = health, feed, History()
        self._shelf, self._shelved = shelf, 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take from the shelf what an earlier run left there, and begin."""
        if self._shelf is not None:
            self.feed.restore(await asyncio.to_thread(self._shelf.load))
            self._shelved = self.feed.last
            self._tasks.append(asyncio.create_task(self._shelve(), name="keep what the page shows"))
        self._tasks.append(asyncio.create_task(self._watch(), name="watch for the page"))

    async def close(self) -> None:
        """Let every reader go, and end."""
        self.feed.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._shelf is not None:
            await self._shelve_now(self._shelf)

    async def _watch(self) -> None:
        """Note a point of the history now and then, and tell the readers how the daemon is while there are any."""
        due_s = 0.0
        while True:
            point = None
            if (now_s := time.monotonic()) >= due_s:
                due_s = now_s + EVERY_S
                point = self._point()
                self.history.points.append(point)
            if self.feed.readers:
                self.feed.tell(json.dumps(self._state(point)).encode())
            await asyncio.sleep(STATE_S)

    def _point(self) -> Point:
        now = self.health.snapshot()
        windows = now["windows"]
        return Point(
            round(time.time() * 1000),
            now["per_second"]["windows"],
            windows["in_engine"],
            windows["engine_slots"],
            windows["waiting"],
            self._lag(),
        )

    def _lag(self) -> int:
        return sum(lag for route in self.health.routes for lag in route.lag.values())

    def _state(self, point: Point | None = None) -> dict[str, Any]:
        """Return how the daemon is, as plain values."""
        snapshot, lag, rendering = self.health.snapshot(), self._lag(), self.health.engine.rendering
        more = {"lag": lag, "bottleneck": bottleneck(snapshot, lag, rendering.waiting if rendering else 0)}
        if point is not None:
            more["point"] = asdict(point)
        return snapshot | more

    def hello(self, is_open: bool, stay: list[str]) -> bytes:
        """Return what a reader is told first, as JSON; the clips of the sources that ``stay`` can be opened."""
        known = {"epoch": self.feed.epoch, "keep": self.feed.keep, "may": is_open, "stay": stay}
        known |= {"history": self.history.to_plain(), "state": self._state()}
        return json.dumps(known).encode()

    async def events(self, reader: Reader, hello: bytes) -> AsyncIterator[bytes]:
        """Yield server-sent events for one reader until it goes or the daemon ends."""
        feed = self.feed
        try:
            yield b"retry: 2000\n" + _event(b"hello", hello)
            while feed.is_open:
                await reader.news()
                if written := self._next(reader):
                    yield written
                if reader.number < feed.last:
                    reader.wake()
                    await asyncio.sleep(0)
                else:
                    await asyncio.sleep(_FLUSH_S)
        finally:
            feed.leave(reader)

    def _next(self, reader: Reader) -> bytes:
        """Return what a reader has not got yet, as far as that is one write."""
        parts: list[bytes] = []
        missed = self.feed.first - 1 - reader.number
        if missed > 0 and reader.number > 0:
            parts.append(_event(b"missed", b"%d" % missed))
        size_bytes = 0
        for entry in self.feed.after(reader.number):
            reader.number = entry.number
            sees = reader.sees and self.feed.last - entry.number < _PICTURES
            identity = b"%b-%d" % (self.feed.epoch.encode(), entry.number)
            parts.append(b"id: " + identity + b"\n" + _event(b"entry", entry.to_json(with_picture=sees)))
            size_bytes += len(parts[-1])
            if size_bytes >= _MOST_BYTES:
                break
        if reader.state is not None:
            parts.append(_event(b"state", reader.state))
            reader.state = None
        return b"".join(parts)

    async def _shelve(self) -> None:
        assert self._shelf is not None  # noqa: S101 - the task is made only then
        while True:
            await asyncio.sleep(_SHELVE_S)
            await self._shelve_now(self._shelf)

    async def _shelve_now(self, shelf: Shelf) -> None:
        entries = list(self.feed.after(self._shelved))
        if entries:
            self._shelved = entries[-1].number
            await asyncio.to_thread(shelf.append, entries)


def _event(name: bytes, data: bytes) -> bytes:
    """Return one event; JSON on one line is one line of data."""
    return b"event: " + name + b"\ndata: " + data + b"\n\n"
