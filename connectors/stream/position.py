"""The position of a stream: the first window without a message, durable in a small file beside the recording."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.contract import Quarantine
from connectors.files.durable import write_whole
from connectors.files.openat import open_folder
from connectors.stream.grid import Grid

log = logging.getLogger(__name__)

_NAME = "position.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """The next window of a grid, and which windows from there on were in flight when something died."""

    grid: Grid
    next_index: int
    quarantined: Mapping[int, Quarantine] = field(default_factory=dict)

    @property
    def next_ns(self) -> int:
        """When the next window begins."""
        return self.grid.span(self.next_index)[0]

    def moved(self, next_index: int) -> "StreamPosition":
        """Return the position at a later window."""
        kept = {index: step for index, step in self.quarantined.items() if index >= next_index}
        return StreamPosition(self.grid, next_index, kept)

    def quarantining(self, index: int, step: Quarantine) -> "StreamPosition":
        """Return the position with a window in quarantine."""
        return StreamPosition(self.grid, self.next_index, {**self.quarantined, index: step})

    def on(self, grid: Grid) -> "StreamPosition":
        """Return the position on a grid, which may have another stride than before: no time comes twice then."""
        if grid.stride_ns == self.grid.stride_ns:
            return StreamPosition(grid, self.next_index, self.quarantined)
        return StreamPosition(grid, grid.first_from(self.next_ns))


class PositionFile:
    """The file of one stream, in its folder. All calls block."""

    def __init__(self, folder: Path) -> None:
        self._root, self._name = folder.parent.parent, (folder.parent.name, folder.name)

    def read(self) -> StreamPosition | None:
        """Return what is kept; None where there is nothing, or nothing that makes sense."""
        try:
            folder = open_folder(self._root, self._name)
        except FileNotFoundError:
            return None
        try:
            descriptor = os.open(_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            return None
        finally:
            os.close(folder)
        with open(descriptor, "rb") as file:
            return _parsed(file.read())

    def write(self, position: StreamPosition) -> None:
        """Keep a position; it is durable when this returns."""
        kept = {
            "version": _VERSION,
            "window_ns": position.grid.window_ns,
            "stride_ns": position.grid.stride_ns,
            "next_index": position.next_index,
            "quarantined": {str(index): int(step) for index, step in position.quarantined.items()},
        }
        folder = open_folder(self._root, self._name, create=True)
        try:
            write_whole(folder, _NAME, json.dumps(kept).encode() + b"\n", mode=0o600)
        finally:
            os.close(folder)


def _parsed(data: bytes) -> StreamPosition | None:
    try:
        kept: dict[str, Any] = json.loads(data)
        if kept["version"] != _VERSION:
            raise ValueError(f"version {kept['version']}")
        grid = Grid(int(kept["window_ns"]), int(kept["stride_ns"]))
        quarantined = {int(index): Quarantine(step) for index, step in kept["quarantined"].items()}
        return StreamPosition(grid, int(kept["next_index"]), quarantined)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("The position of a stream can't be read, and counts as none: %s.", error)
        return None
