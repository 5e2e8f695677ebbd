"""Files beneath a folder, opened one component at a time, so that no link leads out of it.

A path is a sequence of components; none is empty, ``.``, ``..`` or holds a slash or NUL. Each component is opened in
the folder opened before it and is never followed where it is a link: whoever swaps a folder for a link meanwhile gets
a refusal, not another folder. Errors are Python's own :class:`OSError`.
"""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a pipe that was swapped in must not block the open; it means nothing for regular files
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def is_component(part: str) -> bool:
    """Whether this can be one component of a path beneath a folder."""
    return part not in ("", ".", "..") and "/" not in part and "\0" not in part


def open_folder(root: Path, parts: Sequence[str] = (), *, create: bool = False) -> int:
    """Return a descriptor of the folder ``parts`` beneath ``root``; the caller closes it.

    ``root`` itself is trusted and may be reached through links. With ``create`` what is missing is made.
    """
    if not all(map(is_component, parts)):
        raise OSError(errno.EINVAL, "not a path beneath a folder", "/".join(parts))
    folder = _open_root(root, create=create)
    for part in parts:
        try:
            inner = _enter(folder, part, create=create)
        finally:
            os.close(folder)
        folder = inner
    return folder


def _open_root(root: Path, *, create: bool) -> int:
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        if not create:
            raise
    root.mkdir(parents=True, exist_ok=True)
    return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _enter(folder: int, part: str, *, create: bool) -> int:
    try:
        return os.open(part, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(part, dir_fd=folder)
        os.fsync(folder)
    except FileExistsError:
        pass  # someone else made it meanwhile
    return os.open(part, _FOLDER, dir_fd=folder)


def open_file(root: Path, parts: Sequence[str]) -> tuple[int, os.stat_result]:
    """Return a read-only descriptor of a regular file beneath ``root``, and its status; the caller closes it.

    Anything but a regular file is refused with ``ELOOP`` (a link) or ``EINVAL``, before it is opened: opening a device
    can have effects.
    """
    if not parts or not is_component(parts[-1]):
        raise OSError(errno.EINVAL, "not a path beneath a folder", "/".join(parts))
    folder = open_folder(root, parts[:-1])
    try:
        _refuse_irregular(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False))
        descriptor = os.open(parts[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        status = os.fstat(descriptor)
        _refuse_irregular(status)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


def stat_file(root: Path, parts: Sequence[str]) -> os.stat_result:
    """Return the status of what lies at ``parts`` beneath ``root``; a link's own where it is one."""
    if not parts or not is_component(parts[-1]):
        raise OSError(errno.EINVAL, "not a path beneath a folder", "/".join(parts))
    folder = open_folder(root, parts[:-1])
    try:
        return os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(folder)


def _refuse_irregular(status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "a symbolic link")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
