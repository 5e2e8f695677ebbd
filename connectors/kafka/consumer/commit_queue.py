"""What is ready to become durable: committed together, answered together, never for a partition that is gone."""

import asyncio
import logging
from collections.abc import Sequence

from connectors.errors import Poison, Reason
from connectors.kafka.client.consumer import KafkaConsumer, KafkaFault, TopicPartition, translate
from connectors.kafka.consumer.assigned_partitions import Partitions, Place
from connectors.kafka.consumer.committer import Committer, TooLarge, Unknown, offsets_of
from connectors.kafka.offset_ledger import PartitionPosition
from connectors.kafka.record import Publication

log = logging.getLogger(__name__)

ANSWER_MS = 5_000  # for what the group's coordinator has stored; it answers in some milliseconds when it is there


class CommitQueue:
    """Publications in line for the next commit. Only the thread that owns the consumer uses it."""

    def __init__(self, committer: Committer, partitions: Partitions, loop: asyncio.AbstractEventLoop) -> None:
        self.committer, self.partitions = committer, partitions
        self.commits = 0
        self._loop = loop
        self._ready: list[Publication] = []
        self._in_doubt: tuple[list[Publication], dict[Place, PartitionPosition]] | None = None

    def __len__(self) -> int:
        return len(self._ready) + (len(self._in_doubt[0]) if self._in_doubt else 0)

    @property
    def is_in_doubt(self) -> bool:
        """Whether a commit got no answer, so that nothing is committed before it is known what became of it."""
        return self._in_doubt is not None

    def add(self, publication: Publication) -> None:
        """Put a publication in line."""
        self._ready.append(publication)

    def commit(self, consumer: KafkaConsumer, limit_s: float) -> None:
        """Commit all that is ready; a ``KafkaFault`` means that it stays in line.

        1. What became of a commit without an answer is found out first.
        2. What comes after its partition's revoke is counted, answered and changes nothing.
        3. The records and the positions become durable.
        4. The ledgers take over what is durable; finished clips make room for others.
        5. Those who wait hear of it.
        """
        if self._in_doubt is not None:
            self._find_out(consumer)  # 1
        owned, late = self.partitions.split(self._ready)
        self._ready = owned
        self._drop(late)  # 2
        if not owned:
            return
        positions = self.partitions.positions_after(owned)
        try:
            self.committer.commit(owned, positions, consumer, limit_s)  # 3
        except TooLarge as refused:
            self._refuse(refused)
            return
        except Unknown as unknown:
            log.warning("A commit got no answer (%s); what became of it is looked up before the next.", unknown)
            self._in_doubt, self._ready = (owned, positions), []
            return
        self._ready = []
        self._done(owned, positions)

    def _done(self, owned: list[Publication], positions: dict[Place, PartitionPosition]) -> None:
        self.commits += 1
        self.partitions.apply(owned, positions)  # 4
        for (topic, partition), position in positions.items():
            log.debug("Committed %s/%d at offset %d.", topic, partition, position.offset)
        self._answer(owned, None)  # 5

    def _find_out(self, consumer: KafkaConsumer) -> None:
        """Learn whether the commit in doubt happened, by reading what is stored.

        A new producer has ended the old one's transaction before ``prepare`` returns, and each commit has a number of
        its own, so what is stored for any partition that is still here says it of all. What did not happen is put in
        line again; what concerns a partition that is gone is its new owner's now.
        """
        if self._in_doubt is None:
            return
        self.committer.prepare()
        publications, positions = self._in_doubt
        owned, late = self.partitions.split(publications)
        places = {publication.origin.place for publication in owned}
        happened = any(self._is_stored(consumer, place, positions[place]) for place in sorted(places)[:1])
        self._in_doubt = None
        self._drop(late)
        if happened:
            self._done(owned, {place: positions[place] for place in places})
        else:
            self._ready = owned + self._ready
        if owned:
            log.info("The commit without an answer %s.", "did happen" if happened else "did not happen")

    def _is_stored(self, consumer: KafkaConsumer, place: Place, position: PartitionPosition) -> bool:
        partition = TopicPartition(*place)
        try:
            stored = consumer.committed(partition, metadata=True, timeout_ms=ANSWER_MS)
        except Exception as error:
            raise translate(error) from error
        asked = offsets_of({place: position})[partition]
        return stored is not None and (stored.offset, stored.metadata) == (asked.offset, asked.metadata)

    def _refuse(self, refused: TooLarge) -> None:
        """Answer what no topic takes; a dead letter whose clip is too large goes without the clip."""
        for publication in refused.publications:
            if any(record.fallback is not None for record in publication.records):
                publication.records = tuple(record.fallback or record for record in publication.records)
                continue
            self._ready.remove(publication)
            fault = Poison(Reason.CAPTION_TOO_LARGE, "the topic refuses a message of this size", origin="sink")
            self._answer([publication], fault)

    def revoke(self, consumer: KafkaConsumer, places: Sequence[Place], limit_s: float) -> None:
        """Commit what is ready, once and within ``limit_s``, and then fence the partitions."""
        if self._ready and self._in_doubt is None:
            try:
                self.commit(consumer, limit_s)
            except KafkaFault as fault:
                log.warning("Partitions are given up before their last commit: %s.", fault)
        self.lose(places)

    def lose(self, places: Sequence[Place]) -> None:
        """Fence the partitions: they are another member's already."""
        self.partitions.revoke(places)
        if self._in_doubt is None:
            self._ready, late = self.partitions.split(self._ready)
            self._drop(late)

    def _drop(self, late: list[Publication]) -> None:
        if late:
            log.info("%d settlements came after their partition was revoked and change nothing.", len(late))
            self.partitions.drop(late)
            self._answer(late, None)

    def fail(self, failure: BaseException | None) -> None:
        """Answer everything that will not be committed any more; without a failure it is left to the next owner."""
        in_doubt = self._in_doubt[0] if self._in_doubt else []
        self._in_doubt, left, self._ready = None, in_doubt + self._ready, []
        self._answer(left, failure)

    def _answer(self, publications: list[Publication], failure: BaseException | None) -> None:
        waiters = [publication.waiter for publication in publications if publication.waiter is not None]
        if waiters and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(answer, waiters, failure)


def answer(waiters: "Sequence[asyncio.Future[None]]", failure: BaseException | None) -> None:
    """Wake those who wait; runs in the event loop."""
    for waiter in waiters:
        if waiter.done():
            continue
        if failure is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(failure)
