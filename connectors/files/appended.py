"""Files that grow at their end: read whole, written from a place on, and cut there again where a write fails."""

import errno
import os
import stat

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


def overwrite(folder: int, name: str, at: int, data: bytes, *, sync: bool) -> None:
    """Make ``data`` the content from byte ``at`` on; where that fails the file ends at ``at``."""
    descriptor = os.open(name, _OPEN | os.O_CREAT, 0o666, dir_fd=folder)
    try:
        made = os.fstat(descriptor).st_size == 0
        os.ftruncate(descriptor, at)
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
    if made:
        os.fsync(folder)
