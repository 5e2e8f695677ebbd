"""The partitions that are with this process now, and the clips of theirs that are in flight.

Only the consumer thread uses them. A clip is in flight from its delivery until its end is committed or, after a revoke,
until whoever works on it has let go: a partition that comes back while an old delivery of one of its clips is still
worked on waits for that, so no clip is ever in flight twice.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from connectors.contract import ClipPosition
from connectors.kafka.offset_ledger import OffsetLedger, Outcome, PartitionPosition
from connectors.kafka.record import PendingCommit

Place = tuple[str, int]  # a topic and a partition; equal to kafka-python's TopicPartition


@dataclass(frozen=True, slots=True)
class _InFlight:
    assignment: int
    size_bytes: int


class AssignedPartitions:
    """Ledgers by partition, with the bounds on what may be in flight."""

    def __init__(self, *, max_clips: int, max_bytes: int) -> None:
        self.max_clips, self.max_bytes = max_clips, max_bytes
        self.late_settlements = 0
        self._ledgers: dict[Place, OffsetLedger] = {}
        self._in_flight: dict[tuple[Place, int], _InFlight] = {}
        self._held_bytes = 0
        self._blocked: dict[Place, tuple[int, int]] = {}  # offset and size of the clip that waits
        self._assignments = itertools.count(1)

    @property
    def places(self) -> frozenset[Place]:
        """The partitions that are with this process and whose position is known."""
        return frozenset(self._ledgers)

    @property
    def room(self) -> int:
        """How many more clips may be in flight, if none is larger than those that are."""
        largest_bytes = max((clip.size_bytes for clip in self._in_flight.values()), default=0)
        free = self.max_clips - len(self._in_flight)
        return max(min(free, (self.max_bytes - self._held_bytes) // largest_bytes) if largest_bytes else free, 0)

    @property
    def held_bytes(self) -> int:
        """The bytes of the values of the clips in flight."""
        return self._held_bytes

    @property
    def clips_in_flight(self) -> int:
        """How many clips were delivered and have not ended."""
        return len(self._in_flight)

    def ledger(self, place: Place) -> OffsetLedger | None:
        """Return the partition's ledger, or None while it is not with this process."""
        return self._ledgers.get(place)

    def assign(self, place: Place, committed: PartitionPosition) -> int:
        """Begin an assignment at what was committed, and return its number."""
        self._ledgers[place] = ledger = OffsetLedger(next(self._assignments), committed)
        return ledger.assignment

    def revoke(self, places: Iterable[Place]) -> None:
        """End the partitions' assignments: from here on nothing is committed for them."""
        for place in places:
            self._blocked.pop(place, None)
            ledger = self._ledgers.pop(place, None)
            if ledger is not None:
                ledger.fence()

    def must_wait(self, place: Place, offset: int, size_bytes: int) -> bool:
        """Tell whether a clip can't be taken on now: no room for it or its metadata, or its old delivery is in flight.

        A clip that is larger than all that may be held is taken on when nothing else is held.
        """
        ledger = self._ledgers[place]
        old = self._in_flight.get((place, offset))
        stale = old is not None and old.assignment != ledger.assignment
        fits = self._held_bytes == 0 or self._held_bytes + size_bytes <= self.max_bytes
        if stale or not fits or not (ledger.is_known(offset) or ledger.admits()):
            self._blocked[place] = (offset, size_bytes)
            return True
        return False

    def blocked(self) -> frozenset[Place]:
        """Return the partitions whose next clip must still wait."""
        waiting, self._blocked = self._blocked, {}
        for place, (offset, size_bytes) in waiting.items():
            if place in self._ledgers:
                self.must_wait(place, offset, size_bytes)
        return frozenset(self._blocked)

    def start(self, place: Place, offset: int, size_bytes: int) -> ClipPosition | None:
        """Take a clip on and return where it goes on; None when it is finished."""
        ledger = self._ledgers[place]
        position = ledger.start(offset)
        if position is not None:
            self._in_flight[place, offset] = _InFlight(ledger.assignment, size_bytes)
            self._held_bytes += size_bytes
        return position

    def split(self, pending: Iterable[PendingCommit]) -> tuple[list[PendingCommit], list[PendingCommit]]:
        """Return those of partitions that are with this process, and those that come too late."""
        owned: list[PendingCommit] = []
        late: list[PendingCommit] = []
        for commit in pending:
            ledger = self._ledgers.get(commit.origin.place)
            is_owned = ledger is not None and ledger.assignment == commit.origin.assignment
            (owned if is_owned else late).append(commit)
        return owned, late

    def positions_after(self, pending: Iterable[PendingCommit]) -> dict[Place, PartitionPosition]:
        """Return what to commit for each partition that the pending commits touch."""
        return {
            place: self._ledgers[place].position_after(outcomes) for place, outcomes in _outcomes_of(pending).items()
        }

    def apply(self, pending: Iterable[PendingCommit], committed: Mapping[Place, PartitionPosition]) -> None:
        """Take over what was committed; finished clips are no longer in flight."""
        for place, outcomes in _outcomes_of(pending).items():
            for offset in self._ledgers[place].apply(outcomes, committed[place]):
                self._let_go(place, offset)

    def drop(self, late: Iterable[PendingCommit]) -> None:
        """Count what comes after its partition was revoked. It changes nothing but what is in flight."""
        for commit in late:
            self.late_settlements += 1
            if commit.outcome is None:
                old = self._in_flight.get((commit.origin.place, commit.origin.offset))
                if old is not None and old.assignment == commit.origin.assignment:
                    self._let_go(commit.origin.place, commit.origin.offset)

    def _let_go(self, place: Place, offset: int) -> None:
        gone = self._in_flight.pop((place, offset), None)
        if gone is not None:
            self._held_bytes -= gone.size_bytes


def _outcomes_of(pending: Iterable[PendingCommit]) -> dict[Place, list[tuple[int, Outcome]]]:
    """Return the outcomes by partition, each with the offset of its clip."""
    grouped: dict[Place, list[tuple[int, Outcome]]] = {}
    for commit in pending:
        grouped.setdefault(commit.origin.place, []).append((commit.origin.offset, commit.outcome))
    return grouped
