"""Folders listed beneath a root, however long their path is.

A path above 4,096 bytes can't be given to the system. Such a folder is opened one component at a time, and what lies in
it is looked at through its descriptor.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connectors.files.openat import open_folder, stat_file

DEEPEST = 1_200  # folders in folders; what a step costs grows with the depth

_LONGEST_PATH_BYTES = 3_800  # of PATH_MAX (4,096), with room for a name

Parts = tuple[str, ...]


@contextmanager
def entries_of(root: Path, parts: Parts) -> Iterator[list["os.DirEntry[str]"]]:
    """Hold a folder's entries, in the order of names; they can be looked at while this is open."""
    path = _path(root, parts)
    if _is_short(path):
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        yield found
        return
    folder = open_folder(root, parts)
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        yield found
    finally:
        os.close(folder)


def exists(root: Path, parts: Parts) -> bool:
    """Whether something lies there, even a link that leads nowhere."""
    path = _path(root, parts)
    if _is_short(path):
        return os.path.lexists(path)
    try:
        stat_file(root, parts)
    except OSError:
        return False
    return True


def remove_folder(root: Path, parts: Parts) -> None:
    """Remove an empty folder."""
    path = _path(root, parts)
    if _is_short(path):
        os.rmdir(path)
        return
    folder = open_folder(root, parts[:-1])
    try:
        os.rmdir(parts[-1], dir_fd=folder)
    finally:
        os.close(folder)


def walk(root: Path, top: Parts) -> Iterator[tuple[Parts, bool]]:
    """Yield what lies beneath ``top``, relative to it, and whether it is a folder; each folder before what is in it.

    What is gone or can't be listed is passed over.
    """
    folders: list[Parts] = [()]
    while folders:
        folder = folders.pop()
        inner: list[Parts] = []
        found: list[tuple[Parts, bool]] = []
        try:
            with entries_of(root, (*top, *folder)) as entries:
                found = [((*folder, entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError:
            continue
        for parts, is_folder in found:
            if is_folder and len(parts) <= DEEPEST:
                inner.append(parts)
            yield parts, is_folder
        folders += reversed(inner)


def _path(root: Path, parts: Parts) -> str:
    return "/".join((str(root), *parts))  # pathlib looks at each part again


def _is_short(path: str) -> bool:
    return len(os.fsencode(path)) <= _LONGEST_PATH_BYTES
