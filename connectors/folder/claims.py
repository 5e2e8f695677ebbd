"""Claims on the clips of a watched folder: made by a rename, held by a lock, ended by a rename.

    <path>/a/clip.mp4  ->  <path>/work/<instance>/a/clip.mp4  ->  <path>/done/a/clip.mp4, or failed/

A rename has one winner, so two programs on one file system never hold the same clip. ``work/<instance>/.lock`` is
locked while the instance lives: whoever can lock it may take its claims back. All calls block; they may come from any
thread.
"""

import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from connectors.files.durable import exists_in, move_beneath, rename_to_free_name, write_whole
from connectors.files.faults import NO_FOLDER
from connectors.files.openat import open_file, open_folder
from connectors.folder.instance_lock import LOCK, try_lock, unlock
from connectors.folder.listing import Parts, exists, remove_folder, walk
from connectors.folder.names import is_reason_free, names_like, reason_name, rename_to_like_name
from connectors.folder.settings import OURS

log = logging.getLogger(__name__)

_PROBE = ".probe"

Claimed = tuple[Parts, os.stat_result]  # a clip and its status


class FolderClaims:
    """The claims of one instance on the clips in ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tree = threading.Lock()  # a folder is not removed between being made and being used
        self._lock_file = -1
        self._passed_over: set[Parts] = set()
        self._strangers: set[str] = set()
        self.instance = ""

    def open(self) -> None:
        """Make this instance's folder and lock it. It gets its name once it is locked, so nobody finds it unlocked."""
        if self._lock_file >= 0 and (self._root / "work" / self.instance / LOCK).exists():
            return
        if self.instance:
            os.stat(self._root)  # a folder that went away is not made again: it may be a mount that comes back
        self.abandon()
        self._name_what_was_here()
        for top in OURS:
            self._make_top(top)
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        beside = self._root / "work" / f".{name}"
        beside.mkdir(parents=True)
        self._lock_file = try_lock(beside / LOCK, create=True)
        beside.rename(beside.with_name(name))
        self.instance = name

    def _name_what_was_here(self) -> None:
        """Say once which folders of the user have our names: what lies in them is never taken."""
        if os.path.lexists(self._root / "work"):
            return
        for top in OURS:
            with suppress(OSError):
                if os.listdir(self._root / top):
                    log.warning("%s/ was here before: ended clips go there, and nothing in it is ever taken.", top)

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
            other = rename_to_like_name(root, name)
            log.warning("%s is no folder: it is called %s now, for captiond keeps clips there.", name, other)
        finally:
            os.close(root)
        os.close(open_folder(self._root, (name,), create=True))

    def place(self, parts: Parts) -> Parts:
        """Return where a claimed clip lies, beneath the root."""
        return ("work", self.instance, *parts)

    def claim(self, parts: Parts) -> os.stat_result | None:
        """Take a clip out of the folder and return its status; None where someone else has taken it."""
        with self._tree:
            try:
                return move_beneath(self._root, parts, self.place(parts))
            except (FileNotFoundError, NotADirectoryError, FileExistsError):
                return None  # or a folder on the way became a link: the next scan sees that

    def open_and_close(self, parts: Parts) -> None:
        """Raise the :class:`OSError` with which a file in the folder can't be opened."""
        descriptor, _ = open_file(self._root, parts)
        os.close(descriptor)

    def probe(self) -> None:
        """Raise the :class:`OSError` that stops every claim: a disk that is full or away, a right on ``work``."""
        folder = open_folder(self._root, ("work", self.instance))
        try:
            with suppress(FileExistsError):
                os.mkdir(_PROBE, dir_fd=folder)
            os.rmdir(_PROBE, dir_fd=folder)
        finally:
            os.close(folder)

    def is_claimed(self, parts: Parts) -> bool:
        """Whether an earlier clip of the same name is still being worked on, here or elsewhere.

        So is one that is a file where a folder would be needed for this one.
        """
        return any(
            exists(self._root, ("work", instance, *parts)) or self._stands_in_the_way(instance, parts)
            for instance in self._instances()
        )

    def _stands_in_the_way(self, instance: str, parts: Parts) -> bool:
        """Whether a claimed file lies where a folder on the way to this one would."""
        if len(parts) == 1:
            return False
        try:
            os.close(open_folder(self._root, ("work", instance, *parts[:-1])))
        except OSError as error:
            return error.errno in NO_FOLDER
        return False

    def give_back(self, parts: Parts) -> bool:
        """Put a clip back; False where another of its name came meanwhile: then the next daemon takes it over."""
        with self._tree:
            try:
                move_beneath(self._root, self.place(parts), parts)
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
        target = self._folder_like((outcome, *parts[:-1]))
        try:
            source = open_folder(self._root, self.place(parts)[:-1])
            try:
                self._move(source, parts[-1], target, reason, clip_id)
            finally:
                os.close(source)
        except FileNotFoundError:
            return False
        finally:
            os.close(target)
        self._prune(parts)
        return True

    def _move(self, source: int, name: str, target: int, reason: bytes | None, clip_id: str) -> None:
        """Rename a clip from one folder (a descriptor) into another; :class:`FileNotFoundError` where it is gone."""
        for free in names_like(name):
            if reason is not None:
                if exists_in(target, free) or not is_reason_free(target, free, clip_id):
                    continue
                write_whole(target, reason_name(free), reason)  # 1
            try:
                rename_to_free_name(source, name, target, free)  # 2
            except FileExistsError:
                continue
            os.fsync(target)
            os.fsync(source)
            return

    def _folder_like(self, wanted: Parts) -> int:
        """Open a folder for ended clips, made: the wanted one, or where a file has a name on the way, one like it."""
        try:
            return open_folder(self._root, wanted, create=True)
        except OSError as error:
            if error.errno not in NO_FOLDER:
                raise
        self._make_top(wanted[0])
        made: Parts = wanted[:1]
        for part in wanted[1:]:
            made = (*made, next(name for name in names_like(part) if self._is_folder((*made, name))))
        return open_folder(self._root, made, create=True)

    def _is_folder(self, parts: Parts) -> bool:
        try:
            os.close(open_folder(self._root, parts, create=True))
        except OSError as error:
            if error.errno not in NO_FOLDER:
                raise
            return False
        return True

    def take_over(self) -> Iterator[Claimed]:
        """Claim what dead instances left, and yield it."""
        for instance in self._instances():
            if instance == self.instance:
                continue
            try:
                lock_file = try_lock(self._root / "work" / instance / LOCK)
            except OSError as error:
                self._pass_over((instance, LOCK), error)
                continue
            if lock_file < 0:
                continue
            try:
                yield from self._take_over(instance)
            finally:
                unlock(lock_file)

    def _take_over(self, instance: str) -> Iterator[Claimed]:
        for parts, is_folder in walk(self._root, ("work", instance)):
            if is_folder or parts == (LOCK,):
                continue
            try:
                status = move_beneath(self._root, ("work", instance, *parts), self.place(parts))
            except (FileNotFoundError, FileExistsError):
                continue
            except OSError as error:
                self._pass_over((instance, *parts), error)
                continue
            log.info("Taken over from %s, which is gone.", instance, extra={"clip": "/".join(parts)})
            yield parts, status
        self._remove_empty(instance)

    def _pass_over(self, parts: Parts, error: OSError) -> None:
        """Say once that something in ``work`` is left alone; raise where nothing can be claimed at all."""
        self.probe()
        if parts not in self._passed_over:
            self._passed_over.add(parts)
            log.warning("work/%s can't be taken over and stays there for now: %s.", "/".join(parts), error.strerror)

    def close(self) -> None:
        """Let go. What could not be given back stays claimed, for the next instance to take over."""
        if self._lock_file >= 0:
            self._remove_empty(self.instance)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the lock alone, as a killed program does."""
        if self._lock_file >= 0:
            unlock(self._lock_file)
            self._lock_file = -1

    def _instances(self) -> list[str]:
        try:
            with os.scandir(self._root / "work") as entries:
                found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        return [name for name in sorted(found) if not name.startswith(".") and self._is_instance(name)]

    def _is_instance(self, name: str) -> bool:
        """Whether a folder in ``work`` is an instance's, which has its lock before it has its name; else it is left."""
        if exists(self._root, ("work", name, LOCK)):
            return True
        place = self._root / "work" / name
        with suppress(OSError):
            if name not in self._strangers and os.listdir(place):  # an instance's that is just removed is empty
                self._strangers.add(name)
                log.warning("work/%s is no folder of captiond's: nothing is taken from it.", name)
        return False

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
            if os.listdir(folder) == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()
        except OSError as error:
            log.debug("%s stays: %s.", instance, error.strerror)
