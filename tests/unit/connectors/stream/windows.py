"""Windows of a stream as a pipeline would publish them, over a fake recording."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from connectors.contract import Caption, CaptionStatus, Delivery, Progress, Sink, StreamWindow, WindowSpan
from connectors.memory import MemorySink
from connectors.stream.grid import Grid
from connectors.stream.route import StreamRoute
from connectors.stream.source import OnLag, StreamSource
from testing.fake_recording import NS, FakeRecording

GRID = Grid(4 * NS, 4 * NS)
FIRST = 450_000_000  # the index of a window that begins at a full hour, in 2027
PLAN = "plan"


def window_of(delivery: Delivery) -> StreamWindow:
    assert delivery.clip.stream is not None
    return delivery.clip.stream


def described(delivery: Delivery, text: str = "A dog.", prompt: str | None = None) -> Progress:
    """Return the progress of a window that has its caption, or whatever ends it instead."""
    clip, stream = delivery.clip, window_of(delivery)
    status = CaptionStatus.SUCCESS if clip.unasked is None else clip.unasked.status
    text = text if clip.unasked is None else ""
    span = WindowSpan(0, *(clip.span_ns or (0, stream.exclusive_end_ns - stream.start_ns)))
    name = f"{clip.clip_id}-{prompt or ''}"
    made = Caption(name, clip.clip_id, clip.source, span, text, status, "m", "p", PLAN, prompt=prompt, stream=stream)
    return Progress(delivery, [made], 1, PLAN, last=True)


async def take(deliveries: AsyncIterator[Delivery], count: int) -> list[Delivery]:
    async with asyncio.timeout(30):
        return [await anext(deliveries) for _ in range(count)]


@dataclass
class Stream:
    """A stream's folder and what was recorded of it; sources over it come and go."""

    folder: Path
    grid: Grid = GRID
    on_lag: OnLag = "wait"
    lag_ns: int = 30 * NS
    now_ns: int = FIRST * 4 * NS
    recording: FakeRecording = field(default_factory=FakeRecording)

    def record(self, *indices: int) -> None:
        for index in indices:
            self.recording.put(self.grid.span(index)[0], b"recorded %d" % index)

    def know(self, windows: int) -> None:
        """Let so many windows from the first one on be over."""
        self.recording.know(self.grid.span(FIRST + windows - 1)[1])

    def source(self) -> StreamSource:
        """Return a new source over what is there, as a new daemon has it."""
        before, self.recording = self.recording, FakeRecording("cam", self.recording.kept, self.recording.latest_ns)
        self.recording.reasons, self.recording.spans = before.reasons, before.spans
        self.recording.missing = before.missing
        folder = self.folder / "streams" / "cam"
        lag = {"on_lag": self.on_lag, "lag_ns": self.lag_ns}
        return StreamSource("cam", self.recording, self.grid, folder, now_ns=lambda: self.now_ns, **lag)  # type: ignore[arg-type]

    def route(self, sink: Sink | None = None) -> StreamRoute:
        return StreamRoute(self.source(), sink or MemorySink())
