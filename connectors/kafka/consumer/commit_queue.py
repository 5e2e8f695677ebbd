"""The queue of pending commits between the event loop and the consumer thread.

What is in line is committed together, answered together, and never committed for a partition that is gone.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from connectors.errors import Poison
from connectors.kafka.client.consumer import Consumer, TopicPartition
from connectors.kafka.client.errors import KafkaFault, translate
from connectors.kafka.consumer.assigned_partitions import AssignedPartitions, Place
from connectors.kafka.consumer.committer import Committer, TooLarge, Unknown, offsets_of
from connectors.kafka.offset_ledger import PartitionPosition
from connectors.kafka.record import PendingCommit, fallbacks_of
from connectors.kafka.waiters import answer

log = logging.getLogger(__name__)

ANSWER_MS = 5_000  # for what the group's coordinator has stored; it answers in some milliseconds when it is there


@dataclass(frozen=True)
class _InDoubt:
    """A commit that got no answer: what it was to make durable, and as which positions."""

    pending: Sequence[PendingCommit]
    positions: Mapping[Place, PartitionPosition]


class CommitQueue:
    """Pending commits in line. The event loop adds to it; the consumer thread alone commits from it."""

    def __init__(self, committer: Committer, partitions: AssignedPartitions, loop: asyncio.AbstractEventLoop) -> None:
        self.committer, self.partitions = committer, partitions
        self.commits = 0
        self._loop = loop
        self._line: deque[PendingCommit] = deque()  # its ends are safe to use from two threads at once
        self._in_doubt: _InDoubt | None = None
        self._is_closed = False
        self._failure: BaseException | None = None

    def __len__(self) -> int:
        return len(self._line) + (len(self._in_doubt.pending) if self._in_doubt else 0)

    @property
    def is_in_doubt(self) -> bool:
        """Whether a commit got no answer, so that nothing is committed before it is known what became of it."""
        return self._in_doubt is not None

    def add(self, pending: PendingCommit) -> None:
        """Put a pending commit in line; its waiter hears of it. A queue that is closed answers at once."""
        if self._is_closed:
            answer(self._loop, [pending.waiter], self._failure)
        else:
            self._line.append(pending)

    def commit(self, consumer: Consumer, limit_s: float) -> None:
        """Commit all that is in line; a ``KafkaFault`` means that it stays there.

        1. What became of a commit without an answer is found out first.
        2. What comes after its partition's revoke is counted, answered and changes nothing.
        3. The records and the positions become durable.
        4. The ledgers take over what is durable; finished clips make room for others.
        5. Those who wait hear of it.
        """
        if self._in_doubt is not None:
            self._find_out(self._in_doubt, consumer)  # 1
        left = owned = self._take_owned()  # 2
        try:
            if owned:
                left = self._commit(owned, consumer, limit_s)
        finally:
            self._put_back(left)

    def _commit(self, owned: list[PendingCommit], consumer: Consumer, limit_s: float) -> list[PendingCommit]:
        """Commit, and return what goes back in line."""
        positions = self.partitions.positions_after(owned)
        try:
            self.committer.commit(owned, positions, consumer, limit_s)  # 3
        except TooLarge as refused:
            return self._refuse(owned, refused)
        except Unknown as unknown:
            log.warning("A commit got no answer (%s); what became of it is looked up before the next.", unknown)
            self._in_doubt = _InDoubt(owned, positions)
            return []
        self._done(owned, positions)
        return []

    def _done(self, owned: Sequence[PendingCommit], positions: Mapping[Place, PartitionPosition]) -> None:
        self.commits += 1
        self.partitions.apply(owned, positions)  # 4
        for (topic, partition), position in positions.items():
            log.debug("Committed %s/%d at offset %d.", topic, partition, position.offset)
        self._answer(owned)  # 5

    def _find_out(self, doubt: _InDoubt, consumer: Consumer) -> None:
        """Learn whether the commit in doubt happened, by reading what is stored.

        A new producer has ended the old one's transaction before ``prepare`` returns, and each commit has a number of
        its own, so what is stored for any partition that is still here says it of all. What did not happen is put in
        line again; what concerns a partition that is gone is its new owner's now.
        """
        self.committer.prepare()
        owned, late = self.partitions.split(doubt.pending)
        places = sorted({pending.origin.place for pending in owned})
        happened = bool(places) and _is_stored(consumer, places[0], doubt.positions[places[0]])
        self._in_doubt = None
        self._drop(late)
        if happened:
            self._done(owned, {place: doubt.positions[place] for place in places})
        else:
            self._put_back(owned)
        if owned:
            log.info("The commit without an answer %s.", "did happen" if happened else "did not happen")

    def _refuse(self, owned: Sequence[PendingCommit], refused: TooLarge) -> list[PendingCommit]:
        """Return what is left of pending commits of which a topic refuses some for their size; answer the others."""
        left: list[PendingCommit] = []
        for pending in owned:
            try:
                left.append(_with_fallbacks(pending) if pending in refused.pending else pending)
            except Poison as fault:
                self._answer([pending], fault)
        return left

    def revoke(self, consumer: Consumer, places: Sequence[Place], limit_s: float) -> None:
        """Commit what is in line, once and within ``limit_s``, and then fence the partitions."""
        if self._line and self._in_doubt is None:
            try:
                self.commit(consumer, limit_s)
            except KafkaFault as fault:
                log.warning("Partitions are given up before their last commit: %s.", fault)
        self.lose(places)

    def lose(self, places: Sequence[Place]) -> None:
        """Fence the partitions: they are another member's already."""
        self.partitions.revoke(places)
        if self._in_doubt is None:
            self._put_back(self._take_owned())

    def _take_owned(self) -> list[PendingCommit]:
        """Take what is in line out of it, without what came too late, which is dropped."""
        owned, late = self.partitions.split(self._take())
        self._drop(late)
        return owned

    def _take(self) -> list[PendingCommit]:
        return [self._line.popleft() for _ in range(len(self._line))]

    def _put_back(self, pending: Sequence[PendingCommit]) -> None:
        """Put pending commits back in line, before those that came meanwhile."""
        self._line.extendleft(reversed(pending))

    def _drop(self, late: Sequence[PendingCommit]) -> None:
        if late:
            log.info("%d settlements came after their partition was revoked and change nothing.", len(late))
            self.partitions.drop(late)
            self._answer(late)

    def close(self, failure: BaseException | None) -> None:
        """Answer everything that will not be committed any more; without a failure it is left to the next owner.

        To be called from the event loop, when the consumer thread has done its last commit.
        """
        in_doubt = [*self._in_doubt.pending] if self._in_doubt else []
        self._is_closed, self._failure, self._in_doubt = True, failure, None
        self._answer(in_doubt + self._take(), failure)

    def _answer(self, pending: Sequence[PendingCommit], failure: BaseException | None = None) -> None:
        answer(self._loop, [commit.waiter for commit in pending], failure)


def _is_stored(consumer: Consumer, place: Place, position: PartitionPosition) -> bool:
    partition = TopicPartition(*place)
    try:
        stored = consumer.committed(partition, metadata=True, timeout_ms=ANSWER_MS)
    except Exception as error:
        raise translate(error) from error
    asked = offsets_of({place: position})[partition]
    return stored is not None and (stored.offset, stored.metadata) == (asked.offset, asked.metadata)


def _with_fallbacks(pending: PendingCommit) -> PendingCommit:
    return replace(pending, records=fallbacks_of(pending.records, "the topic refuses a message of this size"))
