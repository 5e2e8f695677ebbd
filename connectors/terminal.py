"""Clips named on a command line, and captions handed to whoever prints them."""

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from connectors.at_least_once import AtLeastOnceRoute
from connectors.contract import Clip, Delivery, Progress, Reporting, Route, clip_id_of
from connectors.errors import Poison, Reason


class NamedFile:
    """A file that the person at the terminal names, links included."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)
        self.size_bytes = path.stat().st_size if path.is_file() else 0

    def open(self) -> int:
        """Return a read-only descriptor."""
        try:
            if not self._path.is_file():
                raise Poison(Reason.VANISHED, f"{self.name} is no file", origin="source")
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Poison(Reason.VANISHED, f"{self.name}: {error.strerror}", origin="source") from error

    def close(self) -> None:
        return


class NamedFilesSource(Reporting):
    """Delivers each named file once, in order."""

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        self.name = name
        self._paths = paths
        self._draining = False

    async def deliveries(self) -> AsyncIterator[Delivery]:
        for path in self._paths:
            if self._draining:
                return
            yield Delivery(named_clip(self.name, path))

    async def settle(self, progress: Progress) -> None:
        return  # nothing is kept between two runs of a one-shot command

    async def quarantine(self, delivery: Delivery) -> None:
        return

    async def drain(self) -> None:
        self._draining = True

    async def close(self) -> None:
        return


class CallbackSink(Reporting):
    """Hands each progress to a function, such as one that prints."""

    def __init__(self, show: Callable[[Progress], None]) -> None:
        self._show = show

    async def write(self, progress: Progress) -> None:
        self._show(progress)

    async def close(self) -> None:
        return


def terminal_route(source: str, paths: Sequence[Path], show: Callable[[Progress], None]) -> Route:
    """Return the route from files that a person names to whatever shows the captions."""
    return AtLeastOnceRoute(NamedFilesSource(source, paths), CallbackSink(show))


def named_clip(source: str, path: Path) -> Clip:
    """Return the clip of a file; its id is made of its absolute path, size and modification time."""
    media = NamedFile(path)
    parts = [str(path.resolve()), str(media.size_bytes)]
    if path.is_file():
        parts.append(str(path.stat().st_mtime_ns))
    return Clip(clip_id_of(*parts), source, media, time.time_ns())
