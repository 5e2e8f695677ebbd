"""Clips that a watched folder leaves where they are: each is said once, counted, and looked at again later."""

import errno
import logging
import time
from collections.abc import Callable
from enum import StrEnum

from connectors.folder.listing import Parts

log = logging.getLogger(__name__)

_MOST_NAMED = 100  # a folder full of another user's files does not fill the log

_REMEDIES = {
    errno.EACCES: "captiond's user must be allowed to read it and to write into its folder",
    errno.EPERM: "it is another user's in a sticky folder, or it is immutable: captiond's user must own it",
    errno.EROFS: "its folder can only be read",
    errno.EXDEV: "its folder is a mount of its own, which can be a source of its own",
    errno.ENAMETOOLONG: "it needs a shorter name",
}


class PassedOver(StrEnum):
    """Why entries are no clips although nothing is wrong with them, as what is said of several."""

    NO_PATTERN = "fit no pattern"
    UNFINISHED = "have the name of an unfinished upload"


class LeftFiles:
    """The entries of a folder that are left alone. One that is left is looked at again after ``retry_s``.

    A pass over the folder ends with :meth:`end_pass`. All calls come from one thread at a time.
    """

    def __init__(self, retry_s: float, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._retry_s, self._monotonic_s = retry_s, monotonic_s
        self._due_s: dict[Parts, float] = {}
        self._seen: set[Parts] = set()  # those of them that this pass came by
        self._said: set[tuple[Parts, str]] = set()
        self._told: set[Parts] = set()
        self._passed_over: dict[PassedOver, tuple[int, Parts]] = {}  # how many, and the first
        self._summed_up: set[PassedOver] = set()
        self.total = 0  # since the start

    def __len__(self) -> int:
        return len(self._due_s)

    def leave(self, parts: Parts, why: str, remedy: str = "") -> None:
        """Leave an entry, and say why the first time."""
        self.total += parts not in self._due_s
        self._due_s[parts] = self._monotonic_s() + self._retry_s
        self._seen.add(parts)
        if self._is_news(parts, why):
            log.warning("%s %s: it is left where it is%s.", "/".join(parts), why, f"; {remedy}" if remedy else "")

    def leave_for(self, parts: Parts, what: str, error: OSError) -> None:
        """Leave an entry for a fault of the file system; ``what`` says what could not be done with it."""
        remedy = _REMEDIES.get(error.errno or 0, "it is tried again later")
        self.leave(parts, f"{what} ({error.strerror or error})", remedy)

    def say(self, parts: Parts, why: str, level: int = logging.INFO) -> None:
        """Say once why an entry is passed over that its owner may wait for; it is no fault and not counted."""
        if parts not in self._told and len(self._told) < _MOST_NAMED:
            self._told.add(parts)
            log.log(level, "%s %s.", "/".join(parts), why)

    def pass_over(self, parts: Parts, kind: PassedOver) -> None:
        """Note an entry for the one sentence about all of its kind."""
        if kind not in self._summed_up:
            count, first = self._passed_over.get(kind, (0, parts))
            self._passed_over[kind] = count + 1, first

    def _is_news(self, parts: Parts, why: str) -> bool:
        if (parts, why) in self._said or len(self._said) > _MOST_NAMED:
            return False
        self._said.add((parts, why))
        if len(self._said) <= _MOST_NAMED:
            return True
        log.warning("More files are left where they are and not named; captiond_source_events_total counts them.")
        return False

    def is_due(self, parts: Parts) -> bool:
        """Whether an entry is to be looked at: it was never left, or long enough ago."""
        due_s = self._due_s.get(parts)
        if due_s is None:
            return True
        self._seen.add(parts)
        return self._monotonic_s() >= due_s

    def taken(self, parts: Parts) -> None:
        """Forget an entry that could be taken after all."""
        if parts in self._due_s:
            self._forget(parts)
            log.info("%s could be taken now.", "/".join(parts))

    def end_pass(self) -> None:
        """Say of what was passed over how much it is, and forget what is not there any more."""
        for kind, (count, first) in self._passed_over.items():
            self._summed_up.add(kind)
            log.info("Entries that %s are left where they are: %d, first %s.", kind, count, "/".join(first))
        self._passed_over.clear()
        for parts in self._due_s.keys() - self._seen:
            self._forget(parts)
        self._seen.clear()

    def _forget(self, parts: Parts) -> None:
        self._due_s.pop(parts, None)
        self._said = {said for said in self._said if said[0] != parts}
