"""The scan of a watched folder, which finds the clips in it that are whole."""

import logging
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from connectors.folder.left_files import LeftFiles, PassedOver
from connectors.folder.listing import DEEPEST, Parts, entries_of
from connectors.folder.patterns import parse_pattern
from connectors.folder.settings import OURS, UNFINISHED
from connectors.folder.unfinished import unfinished_names

_GONE = (FileNotFoundError, NotADirectoryError)
_RETRY_S = 30.0
Entry = os.DirEntry[str]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file that may still be written to, as it was when it was first seen in this state."""

    signature: tuple[int, int, int, int]  # inode, size, mtime_ns, ctime_ns
    since_s: float
    grew: bool  # it was seen in another state before


class FolderScan:
    """Looks through a folder again and again, and remembers the files that are not whole yet.

    A file is whole when a standstill was seen: two looks at least ``settle_s`` apart found the same inode, size and
    times. What its time stamps say counts for nothing: they are another machine's. Links are found at once; their claim
    is their end.
    """

    def __init__(
        self,
        root: Path,
        pattern: str,
        settle_s: float,
        unfinished: Sequence[str] = UNFINISHED,
        *,
        left: LeftFiles | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._pattern, self._settle_s = root, parse_pattern(pattern), settle_s
        self._takes_all = pattern in ("**", "**/*")
        self._unfinished, self._monotonic_s = unfinished_names(tuple(unfinished)), monotonic_s
        self.left = LeftFiles(_RETRY_S, monotonic_s) if left is None else left
        self._unsettled: dict[Parts, _Seen] = {}

    @property
    def unsettled(self) -> Collection[Parts]:
        """The files of the last pass that may still be written to."""
        return self._unsettled.keys()

    @property
    def growing(self) -> Collection[Parts]:
        """Those of them that were seen to change."""
        return {parts for parts, seen in self._unsettled.items() if seen.grew}

    @property
    def next_due_s(self) -> float | None:
        """In how many seconds the first of them may be whole; None when there are none."""
        now_s = self._monotonic_s()
        dues = (self._settle_s + seen.since_s - now_s for seen in self._unsettled.values())
        return max(min(dues), 0.0) if self._unsettled else None

    def whole_files(self) -> Iterator[Parts]:
        """Yield the path of each whole file, folder by folder in the order of names, in one pass over everything."""
        unsettled: dict[Parts, _Seen] = {}
        for entry, parts, names in self._files(self.left):
            if self.left.is_due(parts) and self._is_whole(entry, parts, names, unsettled):
                yield parts
        self._unsettled = unsettled
        self.left.end_pass()

    def count(self) -> int:
        """Return how many files there are, whole or not, without a look at any of them."""
        return sum(1 for _ in self._files(None))

    def _files(self, left: LeftFiles | None) -> Iterator[tuple[Entry, Parts, Collection[str]]]:
        """Yield what may be clips, each with the names beside it; ``left`` is told of all else."""
        folders: list[Parts] = [()]
        while folders:
            folder = folders.pop()
            inner: list[Parts] = []
            with ExitStack() as listing:
                found = self._list(folder, listing, left)
                names = self._unfinished.of(entry.name for entry in found)
                for entry in found:
                    parts = (*folder, entry.name)
                    if self._unfinished.fit(entry.name):
                        _pass_over_unfinished(entry, parts, left)
                    elif entry.is_dir(follow_symlinks=False):
                        inner.append(parts)
                    elif self._takes_all or self._pattern.fits(parts):
                        yield entry, parts, names
                    elif left is not None:
                        left.pass_over(parts, PassedOver.NO_PATTERN)
            folders += reversed(inner)

    def _list(self, folder: Parts, listing: ExitStack, left: LeftFiles | None) -> list[Entry]:
        """Return a folder's entries, to be looked at while ``listing`` is open; one that can't be listed has none."""
        fault: OSError | None = None
        found: list[Entry] = []
        if len(folder) <= DEEPEST:
            try:
                found = listing.enter_context(entries_of(self._root, folder))
            except OSError as error:
                if not folder:
                    raise
                fault = error
        if left is not None and len(folder) > DEEPEST:
            left.leave(folder, f"lies more than {DEEPEST} folders deep")
        elif left is not None and fault is not None and not isinstance(fault, _GONE):
            left.leave_for(folder, "can't be read", fault)
        ours = OURS if not folder else ()
        return [entry for entry in found if entry.name not in ours]

    def _is_whole(self, entry: Entry, parts: Parts, names: Collection[str], unsettled: dict[Parts, _Seen]) -> bool:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            if not isinstance(error, _GONE):
                self.left.leave_for(parts, "can't be looked at", error)
            return False
        if stat.S_ISLNK(status.st_mode):
            return True
        if not stat.S_ISREG(status.st_mode):
            self.left.leave(parts, "is not a regular file")
            return False
        if beside := self._unfinished.beside(entry.name, status.st_size, names):
            self.left.say(parts, f"is not finished: {beside} lies beside it, and it is taken when that is gone")
            return False
        seen = self._look(parts, status)
        if self._monotonic_s() - seen.since_s >= self._settle_s:
            return True
        unsettled[parts] = seen
        return False

    def _look(self, parts: Parts, status: os.stat_result) -> _Seen:
        """Return the file's state and since when it has it; what the last pass saw counts, and nothing before it."""
        signature = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        before = self._unsettled.get(parts)
        if before is not None and before.signature == signature:
            return before
        return _Seen(signature, self._monotonic_s(), grew=before is not None)


def _pass_over_unfinished(entry: Entry, parts: Parts, left: LeftFiles | None) -> None:
    if left is None:
        return
    if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
        why = "is a folder with the name of an unfinished upload: nothing is taken from it"
        left.say(parts, why, logging.WARNING)
    else:
        left.pass_over(parts, PassedOver.UNFINISHED)
