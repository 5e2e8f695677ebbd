"""Claims on the clips of a watched folder: made by a rename, held by a lock, ended by a rename.

    <path>/a/clip.mp4  ->  <path>/work/<instance>/a/clip.mp4  ->  <path>/done/a/clip.mp4, or failed/

A rename has one winner, so two programs on one file system never hold the same clip. ``work/<instance>/.lock`` is
locked while the instance lives: whoever can lock it may take its claims back. All calls block; they may come from any
thread.
"""

import fcntl
import hashlib
import itertools
import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from connectors.files.durable import exists_in, rename_to_free_name, write_whole
from connectors.files.openat import open_folder
from connectors.folder.scan import Parts

log = logging.getLogger(__name__)

_LOCK = ".lock"
_LONGEST_NAME_BYTES = 250  # of the 255 a file system takes
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
        self.instance = ""

    def open(self) -> None:
        """Make this instance's folder and lock it. It gets its name once it is locked, so nobody finds it unlocked."""
        if self._lock_file >= 0 and (self._root / "work" / self.instance / _LOCK).exists():
            return
        if self.instance:
            os.stat(self._root)  # a folder that went away is not made again: it may be a mount that comes back
        self.abandon()
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        beside = self._root / "work" / f".{name}"
        beside.mkdir(parents=True)
        self._lock_file = _try_lock(beside / _LOCK)
        beside.rename(beside.with_name(name))
        self.instance = name

    def place(self, parts: Parts) -> Parts:
        """Return where a claimed clip lies, beneath the root."""
        return ("work", self.instance, *parts)

    def claim(self, parts: Parts) -> bool:
        """Take a clip out of the folder; False where someone else has taken it."""
        with self._tree:
            try:
                self._move(parts, self.place(parts), sync=False)
            except (FileNotFoundError, NotADirectoryError):
                return False  # or a folder on the way became a link: the next scan sees that
            return True

    def is_claimed(self, parts: Parts) -> bool:
        """Whether an earlier clip of the same name is still being worked on, here or elsewhere."""
        return any(os.path.lexists(folder.joinpath(*parts)) for folder in self._instances())

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
        for name in _names_like(parts[-1]):
            target = (outcome, *parts[:-1], name)
            folder = open_folder(self._root, target[:-1], create=True)
            try:
                if exists_in(folder, name) or not _is_free(folder, _reason_name(name), clip_id):
                    continue
                if reason is not None:
                    write_whole(folder, _reason_name(name), reason)  # 1
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

    def take_over(self) -> Iterator[Parts]:
        """Claim what dead instances left, and yield each path."""
        for folder in self._instances():
            if folder.name == self.instance:
                continue
            lock_file = _try_lock(folder / _LOCK)
            if lock_file < 0:
                continue
            try:
                yield from self._take_over(folder)
            finally:
                _unlock(lock_file)

    def _take_over(self, folder: Path) -> Iterator[Parts]:
        for top, inner, names in os.walk(folder):
            links = [name for name in inner if os.path.islink(os.path.join(top, name))]
            for name in sorted(names + links):
                if name == _LOCK and Path(top) == folder:
                    continue
                parts = PurePosixPath(top, name).relative_to(folder).parts
                try:
                    self._move(("work", folder.name, *parts), self.place(parts), sync=False)
                except (FileNotFoundError, FileExistsError):
                    continue
                log.info("Taken over from %s, which is gone.", folder.name, extra={"clip": "/".join(parts)})
                yield parts
        _remove_empty(folder)

    def close(self) -> None:
        """Let go. What could not be given back stays claimed, for the next instance to take over."""
        if self._lock_file >= 0:
            _remove_empty(self._root / "work" / self.instance)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the lock alone, as a killed program does."""
        if self._lock_file >= 0:
            _unlock(self._lock_file)
            self._lock_file = -1

    def _instances(self) -> list[Path]:
        try:
            with os.scandir(self._root / "work") as entries:
                found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        return [self._root / "work" / name for name in sorted(found) if not name.startswith(".")]

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
                    os.rmdir(self._root.joinpath(*self.place(parts[:length])))
                except OSError:
                    return


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


def _remove_empty(instance: Path) -> None:
    """Remove an instance's folders; where one holds something its lock file stays too."""
    for top, _, _ in os.walk(instance, topdown=False):
        if Path(top) != instance:
            try:
                os.rmdir(top)
            except OSError:
                continue
    try:
        if os.listdir(instance) == [_LOCK]:
            (instance / _LOCK).unlink()
            instance.rmdir()
    except OSError as error:
        log.debug("%s stays: %s.", instance.name, error.strerror)


def _names_like(name: str) -> Iterator[str]:
    yield name
    stem, dot, suffix = name.rpartition(".")
    if not (dot and stem):
        stem, suffix = name, ""
    for number in itertools.count(1):
        yield _fitting(stem, f".{number}{dot if suffix else ''}{suffix}")


def _reason_name(name: str) -> str:
    return _fitting(name, ".reason.json")


def _fitting(stem: str, ending: str) -> str:
    """Return a name that a file system takes, with room for a temporary one; a long stem is cut and told apart."""
    room_bytes = _LONGEST_NAME_BYTES - len(os.fsencode(ending))
    encoded = os.fsencode(stem)
    if len(encoded) > room_bytes:
        digest = hashlib.sha256(encoded).hexdigest()[:12]
        stem = os.fsdecode(encoded[: max(room_bytes - len(digest), 0)]) + digest
    return stem + ending


def _is_free(folder: int, name: str, clip_id: str) -> bool:
    """Whether a reason file is not there, or was written about this clip by a run that was cut short."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        return clip_id.encode() in file.read(65_536)
