"""The scan of a watched folder, which finds the clips in it that are whole."""

import logging
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from connectors.files.faults import can_pass
from connectors.folder.listing import DEEPEST, Parts, entries_of

log = logging.getLogger(__name__)

OURS = ("work", "done", "failed")  # what the source keeps at the top of its folder
_UNFINISHED = (".part", ".tmp")  # names that producers give to files that they have not finished


def fits_pattern(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path fits a glob, both as components; ``**`` stands for any number of folders.

    A sender chooses the path: its length costs neither stack nor more than its product with the pattern's.
    """
    at = fitting = 0
    behind_last: tuple[int, int] | None = None  # where the last ** lets the path, and the pattern, go on
    while at < len(parts):
        wanted = pattern[fitting] if fitting < len(pattern) else None
        if wanted == "**":
            fitting += 1
            behind_last = at, fitting
        elif wanted is not None and fnmatchcase(parts[at], wanted):
            at, fitting = at + 1, fitting + 1
        elif behind_last is not None:
            at, fitting = behind_last[0] + 1, behind_last[1]
            behind_last = at, fitting
        else:
            return False
    return all(wanted == "**" for wanted in pattern[fitting:])


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
            with ExitStack() as listing:
                for entry in self._list(folder, listing):
                    parts = (*folder, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        inner.append(parts)
                    elif fits_pattern(parts, self._pattern):
                        yield entry, parts
            folders += reversed(inner)

    def _list(self, folder: Parts, listing: ExitStack) -> list["os.DirEntry[str]"]:
        """Return a folder's entries, to be looked at while ``listing`` is open; one that can't be listed has none."""
        if len(folder) > DEEPEST:
            self.ignore(folder, f"lies more than {DEEPEST} folders deep")
            return []
        try:
            found = listing.enter_context(entries_of(self._root, folder))
        except OSError as error:
            if not folder or (can_pass(error) and not isinstance(error, FileNotFoundError)):
                raise
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                self.ignore(folder, f"can't be read ({error.strerror})")
            return []
        ours = OURS if not folder else ()
        return [entry for entry in found if not _is_hidden(entry.name) and entry.name not in ours]

    def _is_whole(self, entry: "os.DirEntry[str]", parts: Parts, unsettled: dict[Parts, _Seen]) -> bool:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                return False
            if can_pass(error):
                raise
            self.ignore(parts, f"can't be looked at ({error.strerror})")
            return False
        if stat.S_ISLNK(status.st_mode):
            return True
        if not stat.S_ISREG(status.st_mode):
            self.ignore(parts, "is not a regular file")
            return False
        now_s, signature = self._monotonic_s(), (status.st_ino, status.st_size, status.st_mtime_ns)
        age_s = self._wall_s() - status.st_mtime_ns / 1e9  # below 0 where a clock is wrong
        before = self._unsettled.get(parts)
        seen = before if before is not None and before.signature == signature else _Seen(signature, now_s, age_s)
        if max(age_s, now_s - seen.since_s) >= self._settle_s:
            return True
        unsettled[parts] = seen
        return False

    def ignore(self, parts: Parts, why: str) -> None:
        """Say once that something is left alone, and why."""
        if parts not in self._ignored:
            self._ignored.add(parts)
            log.warning("%s %s: it is left where it is.", "/".join(parts), why)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith(_UNFINISHED)
