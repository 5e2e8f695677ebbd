"""Files that grow at their end: read whole, written from a place on, and cut there again where a write fails."""

import errno
import os
import stat
from typing import NamedTuple

from connectors.files.durable import write_all

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def size_in(folder: int, name: str) -> int:
    """Return the size of a file in a folder (a descriptor); 0 where there is none."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def read_in(folder: int, name: str) -> bytes:
    """Return the content of a regular file in a folder; nothing where there is none."""
    try:
        descriptor = os.open(name, _OPEN | os.O_NONBLOCK, dir_fd=folder)  # a pipe is not waited for
    except FileNotFoundError:
        return b""
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        return file.read()


class Addition(NamedTuple):
    """What is to be the content of the file ``name`` from byte ``at`` on; with ``sync`` it is durable."""

    name: str
    at: int
    data: bytes
    sync: bool


def overwrite_all(folder: int, *additions: Addition) -> None:
    """Write to files in a folder (a descriptor), one after the other; the folder is synced once for those that are new.

    Where one can't be written, it ends at its ``at``, and those after it are as they were.
    """
    is_new = False
    try:
        for addition in additions:
            is_new |= overwrite(folder, *addition)
    finally:
        if is_new:
            os.fsync(folder)


def overwrite(folder: int, name: str, at: int, data: bytes, sync: bool) -> bool:
    """Make ``data`` the content from byte ``at`` on; where that fails the file ends at ``at``.

    Returns whether the file may be a new one, which is durable once its folder is synced.
    """
    descriptor = os.open(name, _OPEN | os.O_CREAT, 0o666, dir_fd=folder)
    try:
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes != at:
            os.ftruncate(descriptor, at)
        if at:
            os.lseek(descriptor, at, os.SEEK_SET)
        try:
            write_all(descriptor, data)
            if sync:
                os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, at)
            raise
    finally:
        os.close(descriptor)
    return size_bytes == 0
