"""Places on disk that must lie apart: a source that finds captions, a spool or another source's clips would take them.

Each folder of a configuration is held against the others with its links resolved, by what the system says it is: a
folder may have several names, through mounts or on a file system that takes upper and lower case alike.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from connectors.errors import ConfigurationError
from connectors.folder.settings import OURS, FolderSinkSettings, FolderSourceSettings
from connectors.settings import ConnectorSettings
from connectors.tar.settings import TarSourceSettings

_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class _Mount:
    device: bytes
    root: str  # of the file system, what is mounted there
    point: str


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder or file of the configuration, under the key that names it."""

    key: str
    path: Path
    names: frozenset[tuple[object, ...]]  # what it is called: by its path, by its inode, by its place on its device
    above: frozenset[tuple[object, ...]]  # the same of itself and each folder above it

    def lies_in(self, other: "_Place") -> bool:
        """Whether it is the other or lies beneath it."""
        return not self.above.isdisjoint(other.names)


def refuse_overlaps(settings: ConnectorSettings) -> None:
    """Raise :class:`ConfigurationError` where two places of a configuration lie in each other, and name both keys."""
    mounts = list(_mounts())
    folders, archives = _sources(settings, mounts)
    for place in folders:
        _refuse_mounts_inside(place, mounts)
    outputs = [_place("state_dir", settings.state_dir, mounts)]
    if isinstance(settings.sink, FolderSinkSettings):
        outputs.append(_place("sink.path", settings.sink.path, mounts))
    for number, place in enumerate(folders):
        for other in folders[number + 1 :] + outputs + archives:
            _refuse(other, place)  # what lies in a source is taken by it
        for other in folders[number + 1 :]:
            _refuse(place, other)
    for sink in outputs[1:]:
        for other in [*folders, outputs[0]]:
            _refuse(other, sink)
    spool = _place("state_dir", settings.state_dir / "spool", mounts)
    for other in folders + outputs[1:]:
        _refuse(other, spool)


def _sources(settings: ConnectorSettings, mounts: list[_Mount]) -> tuple[list[_Place], list[_Place]]:
    folders, archives = [], []
    for name, source in settings.sources.items():
        if isinstance(source, FolderSourceSettings):
            folders.append(_place(f"sources.{name}.path", source.path, mounts))
        elif isinstance(source, TarSourceSettings):
            archives.append(_place(f"sources.{name}.path", source.path, mounts))
    return folders, archives


def _refuse(inner: _Place, outer: _Place) -> None:
    if not inner.lies_in(outer):
        return
    where = "is the same as" if outer.lies_in(inner) else "lies in"
    message = f"{inner.path} {where} {outer.path}, which is {outer.key}: each needs a folder of its own"
    raise ConfigurationError(message, path=inner.key)


def _refuse_mounts_inside(source: _Place, mounts: list[_Mount]) -> None:
    """Refuse a source whose ended clips could not be renamed into its own folders."""
    real = os.path.realpath(source.path)
    points = {mount.point for mount in mounts}
    for top in OURS:
        if os.path.join(real, top) in points:
            message = f"{top}/ in it is a mount of its own: clips are renamed into it, which needs the same file system"
            raise ConfigurationError(message, path=source.key)


def _place(key: str, path: Path, mounts: list[_Mount]) -> _Place:
    real = Path(os.path.realpath(path))
    names = frozenset(_names(real, mounts))
    above = names.union(*(_names(folder, mounts) for folder in real.parents))
    return _Place(key, path, names, above | frozenset(_device_parents(real, mounts)))


def _names(path: Path, mounts: list[_Mount]) -> Iterator[tuple[object, ...]]:
    yield "path", str(path)
    try:
        status = path.stat()
    except OSError:
        pass
    else:
        yield "inode", status.st_dev, status.st_ino
    yield from ((device, str(at)) for device, at in _on_device(path, mounts))


def _device_parents(path: Path, mounts: list[_Mount]) -> Iterator[tuple[object, ...]]:
    """Yield the folders above a path on its own device, which a mount of a part of it hides from its path."""
    for device, at in _on_device(path, mounts):
        yield from ((device, str(folder)) for folder in at.parents)


def _on_device(path: Path, mounts: list[_Mount]) -> Iterator[tuple[bytes, Path]]:
    """Yield on which device a path lies, and where there; nothing where the system does not say."""
    above = [mount for mount in mounts if path.is_relative_to(mount.point)]
    if above:
        mount = max(above, key=lambda one: len(one.point))
        yield mount.device, Path(mount.root) / path.relative_to(mount.point)


def _mounts() -> Iterator[_Mount]:
    """Yield what is mounted, the newest first."""
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return
    for line in reversed(lines):
        fields = line.split(b" ")
        root, point = (os.fsdecode(_OCTAL.sub(lambda octal: bytes([int(octal[1], 8)]), one)) for one in fields[3:5])
        yield _Mount(fields[2], root, point)
