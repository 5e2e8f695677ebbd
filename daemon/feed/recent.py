"""The last windows that were published, numbered in the order in which they were, and the readers that follow them.

A reader is a number, the last one that it got: what it is sent next is looked up among the windows that are kept. So a
reader holds no memory of its own however slow it is, and one that falls behind by more than is kept misses windows and
is told how many. A reader that comes back with the number that it had goes on there.
"""

import asyncio
import base64
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from connectors.contract import Clip, Progress
from connectors.messages.codec import caption_to_json, rejection_to_json
from daemon.feed.strips import LOOKED_AT, UNSEEN, ProcessorBudget, Strip, strip_of
from daemon.windows import FrameSet

log = logging.getLogger(__name__)

MOST_READERS = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """A caption or a rejection that was published: ``message`` is what its route sent, ``at_ms`` the wall time."""

    number: int
    at_ms: int
    clip_id: str
    source: str
    name: str
    message: bytes = field(repr=False)
    strip: Strip | None = field(default=None, repr=False)

    def to_json(self, *, with_picture: bool = False) -> bytes:
        """Return it as one line for a reader: of its picture the number of frames and their width, and all of it."""
        seen = b"null"
        if self.strip is not None:
            picture = b',"%b"' % base64.b64encode(self.strip.jpeg) if with_picture else b""
            seen = b"[%d,%d%b]" % (self.strip.frames, self.strip.width_px, picture)
        return b'{"number":%d,"at_ms":%d,"strip":%b,"message":%b}' % (self.number, self.at_ms, seen, self.message)


class Reader:
    """Somebody who follows; ``number`` is the last entry that was handed out to them.

    Whoever ``sees`` pictures gets those of the newest entries at once, for a request each would cost more than they do.
    """

    def __init__(self, number: int, *, sees: bool = False) -> None:
        self.number, self.sees = number, sees
        self.state: bytes | None = None  # the newest state that was not handed out yet
        self._news = asyncio.Event()
        self._news.set()

    def wake(self) -> None:
        """Let :meth:`news` return."""
        self._news.set()

    async def news(self) -> None:
        """Return once something may have happened since the last call."""
        await self._news.wait()
        self._news.clear()


class Feed:
    """An observer that keeps the last ``keep`` captions and rejections. All calls are the event loop's."""

    def __init__(self, keep: int, *, clock: Callable[[], float] = time.time) -> None:
        self.keep, self._clock = keep, clock
        self.epoch = secrets.token_hex(4)  # numbers of another run of the daemon mean other windows
        self.first, self.last = 1, 0
        self._entries: dict[int, Entry] = {}
        self._seen: OrderedDict[tuple[str, int], Strip] = OrderedDict()
        self._budget = ProcessorBudget()
        self.readers = set[Reader]()
        self.is_open = True

    def saw(self, clip: Clip, frames: FrameSet) -> None:
        """Make the strip of a window, where there is processor time left for it."""
        if not self.keep or not self._budget.affords(LOOKED_AT if self.readers else UNSEEN):
            return
        begun_s = time.thread_time()
        try:
            self._seen[clip.clip_id, frames.window.index] = strip_of(frames)
        except Exception:  # a picture less on a page is no reason to stop captioning
            log.debug("A window's frames can't be shown.", exc_info=True)
        self._budget.spend(time.thread_time() - begun_s)
        while len(self._seen) > self.keep:  # of clips that ended otherwise
            self._seen.popitem(last=False)

    def published(self, progress: Progress) -> None:
        """Keep what was published, and wake the readers."""
        if not self.keep:
            return
        try:
            self._keep(progress)
        except Exception:  # a line less on a page is no reason to stop captioning
            log.exception("What was published can't be shown.")
        self.wake()

    def _keep(self, progress: Progress) -> None:
        clip, name = progress.delivery.clip, progress.delivery.clip.media.name
        indices = {caption.window.index for caption in progress.captions}
        strips = {index: self._seen.pop((clip.clip_id, index), None) for index in indices}
        for caption in progress.captions:
            self._add(clip, caption_to_json(caption, name), strips[caption.window.index])
        if progress.rejection is not None:
            self._add(clip, rejection_to_json(progress.rejection, name, progress.next_window))

    def _add(self, clip: Clip, message: bytes, strip: Strip | None = None) -> None:
        at_ms = round(self._clock() * 1000)
        self.put(Entry(self.last + 1, at_ms, clip.clip_id, clip.source, clip.media.name, message, strip))

    def put(self, entry: Entry) -> None:
        """Keep the next entry, and let go of the oldest where that is one too many."""
        self.last = entry.number
        self._entries[entry.number] = entry
        if len(self._entries) > self.keep:
            del self._entries[self.first]
            self.first += 1

    def restore(self, entries: list[Entry]) -> None:
        """Begin with what an earlier run kept, in its order; before anything is published."""
        for entry in entries[-self.keep :] if self.keep else []:
            numbered = Entry(
                self.last + 1, entry.at_ms, entry.clip_id, entry.source, entry.name, entry.message, entry.strip
            )
            self.put(numbered)

    def after(self, number: int) -> Iterator[Entry]:
        """Yield the entries behind ``number`` that are kept, the oldest first."""
        return (self._entries[at] for at in range(max(number + 1, self.first), self.last + 1))

    def entry(self, number: int) -> Entry | None:
        """Return an entry that is kept; None for one that is not."""
        return self._entries.get(number)

    def of_clip(self, clip_id: str) -> Iterator[Entry]:
        """Yield what is kept of one clip, the oldest first."""
        return (entry for entry in self._entries.values() if entry.clip_id == clip_id)

    def follow(self, number: int, *, sees: bool = False) -> Reader | None:
        """Return a new reader that has everything up to ``number``; None where there are too many."""
        if len(self.readers) >= MOST_READERS or not self.is_open:
            return None
        reader = Reader(number if 0 <= number <= self.last else 0, sees=sees)
        self.readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Forget a reader."""
        self.readers.discard(reader)

    def tell(self, state: bytes) -> None:
        """Hand every reader the newest state; one that did not read the last one does not get that any more."""
        for reader in self.readers:
            reader.state = state
        self.wake()

    def wake(self) -> None:
        """Wake every reader."""
        for reader in self.readers:
            reader.wake()

    def close(self) -> None:
        """Let every reader end."""
        self.is_open = False
        self.wake()
