"""The intake of a watched folder: whole files are claimed one by one, and what can't be taken holds up nothing."""

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator

from connectors.files.faults import NOT_A_FILE, can_pass
from connectors.folder.claims import Claimed, FolderClaims
from connectors.folder.left_files import LeftFiles
from connectors.folder.listing import Parts
from connectors.folder.scan import FolderScan
from connectors.folder.settings import FolderSourceSettings

log = logging.getLogger(__name__)


class FolderIntake:
    """Claims what is whole. What can't be claimed or read is left, said once and tried again after ``scan_s``."""

    def __init__(
        self,
        settings: FolderSourceSettings,
        claims: FolderClaims,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = claims
        self.left = LeftFiles(settings.scan_s, monotonic_s)
        self._scan = FolderScan(
            settings.path,
            settings.pattern,
            settings.settle_s,
            settings.unfinished,
            left=self.left,
            monotonic_s=monotonic_s,
        )
        self._blocked: set[Parts] = set()  # an earlier clip of the same name is in work
        self._expected: set[Parts] | None = None  # once asked for, after the first pass: what is still waited for

    @property
    def next_due_s(self) -> float | None:
        """In how many seconds the first file that is not whole yet may be; None when there is none."""
        return self._scan.next_due_s

    def count(self) -> int:
        """Return how many files there are, whole or not."""
        return self._scan.count()

    def take(self) -> Iterator[Claimed]:
        """Claim and yield all that is whole now, in one pass; :class:`OSError` where nothing at all can be claimed."""
        self._blocked.clear()
        for parts in self._scan.whole_files():
            if self._expected is not None and parts not in self._expected:
                continue
            if self._claims.is_claimed(parts):
                self._blocked.add(parts)
            elif (status := self._claim(parts)) is not None:
                self.left.taken(parts)
                yield parts, status

    def _claim(self, parts: Parts) -> os.stat_result | None:
        """Claim a file and return its status; None where someone else has it, or where it is left.

        A disk may be full at the claim and not at the probe any more: only a second failure is the file's own.
        """
        for is_last in (False, True):
            what = "can't be read"
            try:
                self._confirm_readable(parts)
                what = "can't be claimed"
                return self._claims.claim(parts)
            except OSError as error:
                self._claims.probe()  # raises where it is not this file's fault
                if is_last or not can_pass(error):
                    self.left.leave_for(parts, what, error)
                    break
        return None

    def _confirm_readable(self, parts: Parts) -> None:
        """Raise where a clip could only be refused later, for a right that somebody may still give."""
        try:
            self._claims.open_and_close(parts)
        except OSError as error:
            if error.errno not in NOT_A_FILE:  # such an entry ends as every clip does, with its reason
                raise

    def blocks(self, parts: Parts) -> bool:
        """Whether a file waits for a claimed one to end, which has its name or is where its folder will be."""
        return any(_clash(parts, waiting) for waiting in self._blocked)

    def still_expects(self, claimed: Collection[Parts]) -> bool:
        """Whether a run that ends by itself waits: for files to stand still once, and for names to become free."""
        unsettled, growing = set(self._scan.unsettled), set(self._scan.growing)
        ours = {parts for parts in self._blocked if any(_clash(parts, one) for one in claimed)}
        if self._expected is not None:
            for parts in sorted(growing):
                log.warning("%s is still being written to: it is left for the next run.", "/".join(parts))
            unsettled = (unsettled - growing) & self._expected
        self._expected = unsettled | ours
        return bool(self._expected)


def _clash(parts: Parts, other: Parts) -> bool:
    """Whether both can't lie in one folder: they are the same, or one is a file where the other needs a folder."""
    shorter = min(len(parts), len(other))
    return parts[:shorter] == other[:shorter]
