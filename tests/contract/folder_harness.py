"""Folders and memory under the contract suites."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from connectors.at_least_once import AtLeastOnceRoute
from connectors.contract import Caption, Clip, Rejection, Route, Sink, Source
from connectors.folder.route import FolderRoute
from connectors.folder.settings import FolderSinkSettings, FolderSourceSettings
from connectors.folder.sink import FolderSink, name_beneath
from connectors.folder.source import FolderSource
from connectors.memory import MemoryInbox, MemorySink, MemorySource
from connectors.messages.codec import message_from_json
from connectors.messages.webvtt import document
from tests.contract.source_contract import SourceHarness

LONG_AGO_NS = 1_600_000_000_000_000_000


def put_file(inbox: Path, name: str, content: bytes = b"clip", mtime_ns: int = LONG_AGO_NS) -> Path:
    """Rename a whole file into a folder, as producers do."""
    target = inbox / name
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    part.write_bytes(content)
    os.utime(part, ns=(mtime_ns, mtime_ns))
    part.rename(target)
    return target


def read_files(captions: Path, clip: Clip) -> tuple[list[Caption], list[Rejection]]:
    """Return what the files of a clip hold; both must be valid."""
    path = captions.joinpath(*name_beneath(clip))
    data = path.with_name(path.name + ".jsonl").read_bytes()
    assert data.endswith(b"\n")
    messages = [message_from_json(line) for line in data.splitlines()]
    found = [message for message in messages if isinstance(message, Caption)]
    assert messages[: len(found)] == found
    assert path.with_name(path.name + ".vtt").read_text() == document(found)
    return found, [message for message in messages if isinstance(message, Rejection)]


class FolderHarness:
    """A folder source."""

    def __init__(self, folder: Path) -> None:
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.settings = FolderSourceSettings(path=self.inbox, settle_s=0.1, scan_s=0.5)

    async def put(self, name: str) -> None:
        put_file(self.inbox, name)

    async def open(self, *, once: bool = True) -> Source:
        return FolderSource("inbox", self.settings, once=once)

    async def kill(self, source: Source) -> None:
        assert isinstance(source, FolderSource)
        source.abandon()


class MemoryHarness:
    """A source in memory."""

    def __init__(self) -> None:
        self.inbox = MemoryInbox()

    async def put(self, name: str) -> None:
        self.inbox.put(name)

    async def open(self, *, once: bool = True) -> Source:
        return MemorySource("inbox", self.inbox, once=once)

    async def kill(self, source: Source) -> None:
        assert isinstance(source, MemorySource)


class FolderSinkHarness:
    """A folder sink, made anew for each opening."""

    def __init__(self, folder: Path) -> None:
        self.captions = folder / "captions"

    async def open(self) -> Sink:
        return FolderSink(FolderSinkSettings(path=self.captions))

    async def read(self, clip: Clip) -> tuple[list[Caption], list[Rejection]]:
        return read_files(self.captions, clip)


class MemorySinkHarness:
    """A sink in memory."""

    def __init__(self) -> None:
        self.sink = MemorySink()

    async def open(self) -> Sink:
        return self.sink

    async def read(self, clip: Clip) -> tuple[list[Caption], list[Rejection]]:
        rejection = self.sink.rejections.get(clip.clip_id)
        return list(self.sink.captions.get(clip.clip_id, [])), [] if rejection is None else [rejection]


class ConnectorPair:
    """Routes of one class between a source and a sink."""

    def __init__(self, source: SourceHarness, sink: FolderSinkHarness | MemorySinkHarness, kind: type) -> None:
        self.source, self.sink, self._kind = source, sink, kind
        self._opened: dict[int, Source] = {}
        self._clips: dict[str, Clip] = {}

    async def put(self, name: str) -> None:
        await self.source.put(name)

    async def open(self, *, once: bool = True, wrap: Callable[[Any], Any] | None = None) -> Route:
        sink: Any = await self.sink.open()
        source = await self.source.open(once=once)
        kind: Any = _noting(self._kind, self._clips)
        route: Route = kind(source, wrap(sink) if wrap else sink)
        self._opened[id(route)] = source
        return route

    async def kill(self, route: Route) -> None:
        await self.source.kill(self._opened[id(route)])

    async def read(self, name: str) -> tuple[list[Caption], list[Rejection]]:
        return await self.sink.read(self._clips[name])


def _noting(kind: type, clips: dict[str, Clip]) -> type:
    class Noting(kind):  # type: ignore[misc]
        async def publish(self, progress: Any) -> None:
            clips[progress.delivery.clip.media.name] = progress.delivery.clip
            await super().publish(progress)

    return Noting


ROUTES: dict[str, Callable[[Path], ConnectorPair]] = {
    "folder to files": lambda at: ConnectorPair(FolderHarness(at), FolderSinkHarness(at), FolderRoute),
    "folder to memory": lambda at: ConnectorPair(FolderHarness(at), MemorySinkHarness(), AtLeastOnceRoute),
    "memory to files": lambda at: ConnectorPair(MemoryHarness(), FolderSinkHarness(at), AtLeastOnceRoute),
    "memory to memory": lambda at: ConnectorPair(MemoryHarness(), MemorySinkHarness(), AtLeastOnceRoute),
    "memory, recorded": lambda at: ConnectorPair(MemoryHarness(), MemorySinkHarness(), FolderRoute),
}
