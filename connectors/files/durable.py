"""Files that are whole or not there, and durable when a call returns."""

import asyncio
import ctypes
import errno
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from connectors.files.openat import open_folder

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0  # work goes on within 10 s after a disk has space again
_RENAME_NOREPLACE = 1  # linux/fs.h
_libc = ctypes.CDLL(None, use_errno=True)


def write_whole(folder: int, name: str, data: bytes, mode: int = 0o666) -> None:
    """Give the file ``name`` in ``folder`` (a descriptor) this content, durably; readers see the old or the new one.

    1. The content is written beside it and synced. 2. It is renamed into place. 3. The folder is synced.
    """
    beside, descriptor = _open_beside(folder, name, mode)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)  # 1
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)  # 2
    except BaseException:
        os.unlink(beside, dir_fd=folder)
        raise
    finally:
        os.close(descriptor)
    os.fsync(folder)  # 3


def _open_beside(folder: int, name: str, mode: int) -> tuple[str, int]:
    """Return a new file for what becomes ``name``. What a crash, or anybody else, left at its own name goes first."""
    beside, flags = f".{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return beside, os.open(beside, flags, mode, dir_fd=folder)
    except FileExistsError:
        try:
            os.unlink(beside, dir_fd=folder)
        except (IsADirectoryError, PermissionError):  # a folder, which needs another word
            beside = f".{secrets.token_hex(8)}.tmp"
        return beside, os.open(beside, flags, mode, dir_fd=folder)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, or raise what the last write raised."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def rename_to_free_name(source_folder: int, source: str, target_folder: int, target: str) -> None:
    """Rename between two folders (descriptors); :class:`FileExistsError` where ``target`` exists.

    Two programs that rename to the same name never replace each other's file.
    """
    old, new = os.fsencode(source), os.fsencode(target)
    if _libc.renameat2(source_folder, old, target_folder, new, _RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), source, None, target)
    _link_and_unlink(source_folder, source, target_folder, target)  # a file system without the flag, NFS for one


def _link_and_unlink(source_folder: int, source: str, target_folder: int, target: str) -> None:
    """Rename by a second name, which replaces nothing either. Of two programs one can take the first name away."""
    try:
        os.link(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder, follow_symlinks=False)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # a folder, or a file system without second names: a small gap is left
        if exists_in(target_folder, target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder)
        return
    try:
        os.unlink(source, dir_fd=source_folder)
    except OSError:
        os.unlink(target, dir_fd=target_folder)
        raise


def move_beneath(root: Path, source: Sequence[str], target: Sequence[str], *, sync: bool = False) -> os.stat_result:
    """Rename beneath ``root``, with the folders of ``target`` made; :class:`FileExistsError` where it exists.

    Returns the status of what was renamed.
    """
    source_folder = open_folder(root, source[:-1])
    try:
        target_folder = open_folder(root, target[:-1], create=True)
        try:
            rename_to_free_name(source_folder, source[-1], target_folder, target[-1])
            if sync:
                os.fsync(target_folder)
                os.fsync(source_folder)
            return os.stat(target[-1], dir_fd=target_folder, follow_symlinks=False)
        finally:
            os.close(target_folder)
    finally:
        os.close(source_folder)


def exists_in(folder: int, name: str) -> bool:
    """Whether a folder (a descriptor) has an entry of this name, even a link that leads nowhere."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


class DiskPatience:
    """Waits until a full or missing disk lets work be done; ``waiting_for`` says what is waited for, for people."""

    def __init__(self) -> None:
        self.waiting_for = ""

    async def run(self, work: Callable[[], T], what: str, **fields: object) -> T:
        """Run ``work`` off the event loop until no :class:`OSError` stops it.

        ``work`` may be run any number of times and must take up where a failed run left off. ``what`` begins the
        sentence that is logged; ``fields`` go with it.
        """
        pause_s, waited = _FIRST_PAUSE_S, False
        while True:
            try:
                done = await asyncio.to_thread(work)
            except OSError as error:
                reason = error.strerror or str(error)
                if not waited:
                    log.warning("%s waits for the disk: %s.", what, reason, extra=fields)
                waited, self.waiting_for = True, f"the disk: {reason}"
            else:
                if waited:
                    log.info("%s goes on.", what, extra=fields)
                    self.waiting_for = ""
                return done
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
