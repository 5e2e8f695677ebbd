"""The page over parts that stand still, and what a test publishes on it."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from starlette.applications import Starlette

from connectors.contract import Caption, CaptionStatus, Clip, Delivery, Progress, WindowSpan, clip_id_of
from connectors.errors import Poison, Reason
from connectors.media.refused import RefusedMedia
from daemon.feed.recent import Feed
from daemon.service.health import Phase
from daemon.service.watchdog import Watchdog
from daemon.web.access import Access
from daemon.web.clips import Clips
from daemon.web.live import Live
from daemon.web.pages import build_app
from daemon.web.server import StatusServer
from daemon.windows import FrameSet, Window
from tests.unit.daemon.running_parts import Heard, Parts

TOKEN = "a-token-for-these-tests-alone"  # noqa: S105 - it opens nothing
NS = 1_000_000_000


def clip(name: str = "porch/0412.mp4", source: str = "inbox", clip_id: str | None = None) -> Clip:
    return Clip(
        clip_id or clip_id_of(source, name),
        source,
        RefusedMedia(name, Poison(Reason.EMPTY, "never opened", origin="source")),
        0,
    )


def frames(index: int = 0, count: int = 8, shade: int = 128, size: tuple[int, int] = (180, 320)) -> FrameSet:
    pixels = np.full((count, *size, 3), shade, dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, size[1], dtype=np.uint8)
    times = tuple(index * NS + frame * NS // count for frame in range(count))
    return FrameSet(Window(index, index * NS, (index + 1) * NS, times, tuple(range(count))), pixels, times)


def captions(
    of: Clip, *texts: str, first: int = 0, status: CaptionStatus = CaptionStatus.SUCCESS, last: bool = False
) -> Progress:
    """Return progress with these texts, for windows of a second from ``first`` on."""
    said = [
        Caption(
            f"{of.clip_id}-{index}",
            of.clip_id,
            of.source,
            WindowSpan(index, index * NS, (index + 1) * NS),
            text,
            status,
            "Qwen/Qwen3-VL-8B-Instruct",
            "prompt",
            "plan",
        )
        for index, text in enumerate(texts, first)
    ]
    return Progress(Delivery(of), said, first + len(said), "plan", last)


def rejection(of: Clip, detail: str = "it can't be decoded") -> Progress:
    fault = Poison(Reason.CORRUPT, detail, origin="sampler")
    return Progress.rejected(Delivery(of), fault, next_window=0, plan_hash="plan")


@dataclass
class Shown:
    """The page's application over a feed that a test fills."""

    keep: int = 1000
    parts: Parts = field(default_factory=Parts)
    clips: Clips = field(default_factory=lambda: Clips(lambda *_: None, lambda *_: "", ["inbox"]))

    def __post_init__(self) -> None:
        self.parts.health.phase = Phase.READY
        self.feed = Feed(self.keep)
        self.live = Live(self.parts.health, self.feed)
        self.watchdog = Watchdog(self.parts.health, Heard(), 180.0, 60.0, self.parts.clock)
        self.app: Starlette = build_app(self.parts.health, self.watchdog, self.live, Access(TOKEN), self.clips)

    def publish(self, of: Clip, *texts: str, first: int = 0, **more: Any) -> None:
        """Show a window's frames and publish its caption, for each text."""
        for index, text in enumerate(texts, first):
            self.feed.saw(of, frames(index, shade=60 + 40 * index % 180))
            self.feed.published(captions(of, text, first=index, **more))

    @contextmanager
    def served(self) -> Iterator[tuple[int, Callable[[Callable[[], Any]], Any]]]:
        """Serve it beside the test; yield the port, and what runs a call in the server's event loop."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        server = StatusServer(self.app, "127.0.0.1:0", beside=self.live)

        def wait(work: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result(60)

        async def call(what: Callable[[], Any]) -> Any:
            return what()

        wait(server.start())
        try:
            yield server.port, lambda what: wait(call(what))
        finally:
            wait(server.close())
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
