"""Claims on the clips of a watched folder: made by a rename, held by a lock, ended by a rename.

    <path>/a/clip.mp4  ->  <path>/work/<instance>/a/clip.mp4  ->  <path>/done/a/clip.mp4, or failed/

A rename has one winner, so two programs on one file system never hold the same clip. ``work/<instance>/.lock`` is
locked while the instance lives: whoever can lock it may take its claims back. All calls block; they may come from any
thread.
"""

import fcntl
import itertools
import logging
import os
import secrets
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from connectors.files.durable import exists_in, rename_to_free_name, write_whole
from connectors.files.faults import NO_FOLDER, can_pass
from connectors.files.openat import open_folder
from connectors.folder.listing import Parts, exists, remove_folder, walk
from connectors.folder.names import names_like, reason_name
from connectors.folder.scan import OURS

log = logging.getLogger(__name__)

_LOCK = ".lock"
_held_locks: set[int] = set()


def _forget_locks() -> None:
    """Close inherited locks: a child that outlives a killed daemon must not keep its claims."""
    while _held_locks:
        os.close(_held_locks.pop())


os.register_at_fork(after_in_child=_forget_locks)


class FolderClaims:
    """The claims of one instance on the clips in ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tree = threading.Lock()  # a folder is not removed between being made and being used
        self._lock_file = -1
        self._passed_over: set[Parts] = set()
        self.instance = ""

    def open(self) -> None:
        """Make this instance's folder and lock it. It gets its name once it is locked, so nobody finds it unlocked."""
        if self._lock_file >= 0 and (self._root / "work" / self.instance / _LOCK).exists():
            return
        if self.instance:
            os.stat(self._root)  # a folder that went away is not made again: it may be a mount that comes back
        self.abandon()
        for top in OURS:
            self._make_top(top)
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        beside = self._root / "work" / f".{name}"
        beside.mkdir(parents=True)
        self._lock_file = _try_lock(beside / _LOCK)
        beside.rename(beside.with_name(name))
        self.instance = name

    def _make_top(self, name: str) -> None:
        """Make one of our folders. What else lies at its name is given another, and is an entry like any other."""
        try:
            os.close(open_folder(self._root, (name,), create=True))
            return
        except OSError as error:
            if error.errno not in NO_FOLDER:
                raise
        root = open_folder(self._root)
        try:
            for other in itertools.islice(names_like(name), 1, None):
                try:
                    rename_to_free_name(root, name, root, other)
                except FileExistsError:
                    continue
                log.warning("%s is no folder: it is called %s now, for captiond keeps clips there.", name, other)
                break
        finally:
            os.close(root)
        os.close(open_folder(self._root, (name,), create=True))

    def place(self, parts: Parts) -> Parts:
        """Return where a claimed clip lies, beneath the root."""
        return ("work", self.instance, *parts)

    def claim(self, parts: Parts) -> bool:
        """Take a clip out of the folder; False where someone else has taken it."""
        with self._tree:
            try:
                self._move(parts, self.place(parts), sync=False)
            except (FileNotFoundError, NotADirectoryError, FileExistsError):
                return False  # or a folder on the way became a link: the next scan sees that
            return True

    def is_claimed(self, parts: Parts) -> bool:
        """Whether an earlier clip of the same name is still being worked on, here or elsewhere."""
        return any(exists(self._root, ("work", instance, *parts)) for instance in self._instances())

    def give_back(self, parts: Parts) -> bool:
        """Put a clip back; False where another of its name came meanwhile: then the next daemon takes it over."""
        with self._tree:
            try:
                self._move(self.place(parts), parts, sync=False)
            except FileNotFoundError:
                return True
            except FileExistsError:
                return False
            return True

    def finish(self, parts: Parts, outcome: str, reason: bytes | None, clip_id: str) -> bool:
        """Move a claimed clip to ``outcome``, durably; False where it is gone. Repeating it is harmless.

        1. The reason file, where there is one, is written beside the place that the clip gets.
        2. The clip is renamed, to the first free name like its own.
        """
        above = self._folder_like((outcome, *parts[:-1]))
        for name in names_like(parts[-1]):
            target = (*above, name)
            folder = open_folder(self._root, above, create=True)
            try:
                if exists_in(folder, name) or not _is_free(folder, reason_name(name), clip_id):
                    continue
                if reason is not None:
                    write_whole(folder, reason_name(name), reason)  # 1
            finally:
                os.close(folder)
            try:
                self._move(self.place(parts), target, sync=True)  # 2
            except FileExistsError:
                continue
            except FileNotFoundError:
                return False
            self._prune(parts)
            return True
        raise AssertionError("names never end")

    def _folder_like(self, wanted: Parts) -> Parts:
        """Return a folder for ended clips, made: the wanted one, or where a file has a name on the way, one like it."""
        try:
            os.close(open_folder(self._root, wanted, create=True))
            return wanted
        except OSError as error:
            if error.errno not in NO_FOLDER:
                raise
        self._make_top(wanted[0])
        made: Parts = wanted[:1]
        for part in wanted[1:]:
            made = (*made, next(name for name in names_like(part) if self._is_folder((*made, name))))
        return made

    def _is_folder(self, parts: Parts) -> bool:
        try:
            os.close(open_folder(self._root, parts, create=True))
        except OSError as error:
            if error.errno not in NO_FOLDER:
                raise
            return False
        return True

    def take_over(self) -> Iterator[Parts]:
        """Claim what dead instances left, and yield each path."""
        for instance in self._instances():
            if instance == self.instance:
                continue
            try:
                lock_file = _try_lock(self._root / "work" / instance / _LOCK)
            except OSError as error:
                self._pass_over((instance, _LOCK), error)
                continue
            if lock_file < 0:
                continue
            try:
                yield from self._take_over(instance)
            finally:
                _unlock(lock_file)

    def _take_over(self, instance: str) -> Iterator[Parts]:
        for parts, is_folder in walk(self._root, ("work", instance)):
            if is_folder or parts == (_LOCK,):
                continue
            try:
                self._move(("work", instance, *parts), self.place(parts), sync=False)
            except (FileNotFoundError, FileExistsError):
                continue
            except OSError as error:
                self._pass_over((instance, *parts), error)
                continue
            log.info("Taken over from %s, which is gone.", instance, extra={"clip": "/".join(parts)})
            yield parts
        self._remove_empty(instance)

    def _pass_over(self, parts: Parts, error: OSError) -> None:
        """Say once that something in ``work`` is left alone; raise what may pass."""
        if can_pass(error):
            raise error
        if parts not in self._passed_over:
            self._passed_over.add(parts)
            log.warning("work/%s can't be taken over and stays there: %s.", "/".join(parts), error.strerror)

    def close(self) -> None:
        """Let go. What could not be given back stays claimed, for the next instance to take over."""
        if self._lock_file >= 0:
            self._remove_empty(self.instance)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the lock alone, as a killed program does."""
        if self._lock_file >= 0:
            _unlock(self._lock_file)
            self._lock_file = -1

    def _instances(self) -> list[str]:
        try:
            with os.scandir(self._root / "work") as entries:
                found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        return [name for name in sorted(found) if not name.startswith(".")]

    def _move(self, source: Parts, target: Parts, *, sync: bool) -> None:
        source_folder = open_folder(self._root, source[:-1])
        try:
            target_folder = open_folder(self._root, target[:-1], create=True)
            try:
                rename_to_free_name(source_folder, source[-1], target_folder, target[-1])
                if sync:
                    os.fsync(target_folder)
                    os.fsync(source_folder)
            finally:
                os.close(target_folder)
        finally:
            os.close(source_folder)

    def _prune(self, parts: Parts) -> None:
        with self._tree:
            for length in range(len(parts) - 1, 0, -1):
                try:
                    remove_folder(self._root, self.place(parts[:length]))
                except OSError:
                    return

    def _remove_empty(self, instance: str) -> None:
        """Remove an instance's folders; where one holds something its lock file stays too."""
        folders = [parts for parts, is_folder in walk(self._root, ("work", instance)) if is_folder]
        for parts in reversed(folders):
            with suppress(OSError):
                remove_folder(self._root, ("work", instance, *parts))
        folder = self._root / "work" / instance
        try:
            if os.listdir(folder) == [_LOCK]:
                (folder / _LOCK).unlink()
                folder.rmdir()
        except OSError as error:
            log.debug("%s stays: %s.", instance, error.strerror)


def _try_lock(path: Path) -> int:
    """Return a descriptor that holds the lock; -1 where someone else does or the folder is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    _held_locks.add(descriptor)
    return descriptor


def _unlock(descriptor: int) -> None:
    if descriptor in _held_locks:
        _held_locks.remove(descriptor)
        os.close(descriptor)


def _is_free(folder: int, name: str, clip_id: str) -> bool:
    """Whether a reason file is not there, or was written about this clip by a run that was cut short."""
    try:
        # O_NONBLOCK: a pipe of this name would be waited for
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and clip_id.encode() in (file.read(65_536) or b"")
