"""Clips of watched folders, opened to be looked at: wherever a clip lies meanwhile, and only while it is the same file.

A clip is known by its id, which is made of its name, size and time. Nothing else is opened, whatever a name says: each
component is opened in the folder before it and no link is followed.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from connectors.contract import clip_id_of
from connectors.files.openat import open_file, open_folder
from connectors.folder.listing import Parts, exists
from connectors.folder.names import names_like

_MOST_OF_A_NAME = 1000  # clips that ended under names like one name


def open_folder_clip(folder: Path, source: str, name: str, clip_id: str) -> int | None:
    """Return a new descriptor of a clip's file, which the caller closes; None where it is nowhere."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if not parts:
        return None
    for place in _places(folder, parts):
        try:
            descriptor, status = open_file(folder, place)
        except OSError:
            continue
        if clip_id_of(source, *parts, str(status.st_size), str(status.st_mtime_ns)) == clip_id:
            return descriptor
        os.close(descriptor)
    return None


def _places(folder: Path, parts: Parts) -> Iterator[Parts]:
    """Yield where a clip may lie: where it ended, where it is worked on, where it waits."""
    for end in ("done", "failed"):
        for name in itertools.islice(names_like(parts[-1]), _MOST_OF_A_NAME):
            yield (end, *parts[:-1], name)
            if not exists(folder, (end, *parts[:-1], name)):
                break
    try:
        work = open_folder(folder, ("work",))
    except OSError:
        instances: list[str] = []
    else:
        try:
            instances = sorted(os.listdir(work))
        finally:
            os.close(work)
    for instance in instances:
        yield ("work", instance, *parts)
    yield parts
