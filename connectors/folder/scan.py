"""The scan of a watched folder, which finds the clips in it that are whole."""

import logging
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

log = logging.getLogger(__name__)

OURS = ("work", "done", "failed")  # what the source keeps at the top of its folder
_UNFINISHED = (".part", ".tmp")  # names that producers give to files that they have not finished

Parts = tuple[str, ...]


def fits_pattern(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path fits a glob, both as components; ``**`` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return fits_pattern(parts, pattern[1:]) or (bool(parts) and fits_pattern(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and fits_pattern(parts[1:], pattern[1:])


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file that may still be written to, as it was when it was first seen in this state."""

    signature: tuple[int, int, int]  # inode, size, mtime_ns
    since_s: float
    age_s: float


class FolderScan:
    """Looks through a folder again and again, and remembers the files that are not whole yet.

    A file is whole when its size and modification time stood still for ``settle_s``: because its time is that old
    already, or because it looked the same that long ago. Links are found at once; their claim is their end.
    """

    def __init__(
        self,
        root: Path,
        pattern: str,
        settle_s: float,
        *,
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._pattern, self._settle_s = root, tuple(pattern.split("/")), settle_s
        self._wall_s, self._monotonic_s = wall_s, monotonic_s
        self._unsettled: dict[Parts, _Seen] = {}
        self._ignored: set[Parts] = set()

    @property
    def unsettled(self) -> Collection[Parts]:
        """The files of the last pass that may still be written to."""
        return self._unsettled.keys()

    @property
    def next_due_s(self) -> float | None:
        """In how many seconds the first of them may be whole; None when there are none."""
        now_s = self._monotonic_s()
        dues = (self._settle_s - max(seen.age_s, 0.0) + seen.since_s - now_s for seen in self._unsettled.values())
        return max(min(dues), 0.0) if self._unsettled else None

    def whole_files(self) -> Iterator[Parts]:
        """Yield the path of each whole file, folder by folder in the order of names, in one pass over everything."""
        unsettled: dict[Parts, _Seen] = {}
        for entry, parts in self._files():
            if self._is_whole(entry, parts, unsettled):
                yield parts
        self._unsettled = unsettled

    def count(self) -> int:
        """Return how many files there are, whole or not, without a look at any of them."""
        return sum(1 for _ in self._files())

    def _files(self) -> Iterator[tuple["os.DirEntry[str]", Parts]]:
        folders: list[Parts] = [()]
        while folders:
            folder = folders.pop()
            inner: list[Parts] = []
            for entry in self._list(folder):
                parts = (*folder, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    inner.append(parts)
                elif fits_pattern(parts, self._pattern):
                    yield entry, parts
            folders += reversed(inner)

    def _list(self, folder: Parts) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(self._root.joinpath(*folder)) as entries:
                found = [entry for entry in entries if not _is_hidden(entry.name)]
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            if not folder:
                raise
            if isinstance(error, PermissionError):
                self._ignore(folder, "can't be read")
            return []
        if not folder:
            found = [entry for entry in found if entry.name not in OURS]
        return sorted(found, key=lambda entry: entry.name)

    def _is_whole(self, entry: "os.DirEntry[str]", parts: Parts, unsettled: dict[Parts, _Seen]) -> bool:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        if stat.S_ISLNK(status.st_mode):
            return True
        if not stat.S_ISREG(status.st_mode):
            self._ignore(parts, "is not a regular file")
            return False
        now_s, signature = self._monotonic_s(), (status.st_ino, status.st_size, status.st_mtime_ns)
        age_s = self._wall_s() - status.st_mtime_ns / 1e9  # below 0 where a clock is wrong
        before = self._unsettled.get(parts)
        seen = before if before is not None and before.signature == signature else _Seen(signature, now_s, age_s)
        if max(age_s, now_s - seen.since_s) >= self._settle_s:
            return True
        unsettled[parts] = seen
        return False

    def _ignore(self, parts: Parts, why: str) -> None:
        if parts not in self._ignored:
            self._ignored.add(parts)
            log.warning("%s %s: it is left where it is.", "/".join(parts), why)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith(_UNFINISHED)
