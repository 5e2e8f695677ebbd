"""Clips from Kafka topics, as a member of a consumer group.

The event loop's side of :mod:`connectors.kafka.consumer.thread`: deliveries come out of a queue that its thread fills,
settlements go into one that it empties, and each settlement waits until a commit made it durable.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.contract import Delivery, Progress, Reporting
from connectors.errors import ConfigurationError, Fatal
from connectors.kafka.client.consumer import BrokerAway, KafkaConsumer, open_consumer
from connectors.kafka.consumer.assigned_partitions import Partitions
from connectors.kafka.consumer.commit_queue import CommitQueue
from connectors.kafka.consumer.committer import Committer, OffsetCommitter
from connectors.kafka.consumer.fetcher import PartitionReader
from connectors.kafka.consumer.thread import COMMIT_LIMIT_S, LEAVE_LIMIT_S, GroupMember
from connectors.kafka.decoder import RecordReader
from connectors.kafka.offset_ledger import Settlement
from connectors.kafka.probe import check_topics, probe_connection
from connectors.kafka.record import OutRecord, Publication, RecordOrigin
from connectors.kafka.settings import KafkaSourceSettings
from connectors.media.protocols import Media
from connectors.media.remote import Spool

log = logging.getLogger(__name__)

CLOSE_LIMIT_S = COMMIT_LIMIT_S + 2 * LEAVE_LIMIT_S  # a commit that runs, then the last one, then leaving the group
LOOK_S = 10.0  # how often the member's thread is looked at while no clip comes
STUCK_S = 300.0  # what a turn of it may take: each call of the client has a limit of some seconds, for each partition
_FETCHES_HELD = 3  # the client holds one answer and asks for the next, and the last poll may bring one more


@dataclass(frozen=True)
class SourceBounds:
    """What one source may hold, and how often it commits.

    ``in_flight_bytes`` are divided evenly between the values of clips in flight, the client's answers to fetches and,
    where a message may point to a URL, the spool.
    """

    max_clips: int = 64
    in_flight_bytes: int = 2**28
    max_clip_bytes: int = 2**31
    commit_interval_s: float = 0.1
    once: bool = False
    spools: bool = False

    @property
    def held_bytes(self) -> int:
        """Values of clips in flight: no more are taken on above this, but for one that is larger alone."""
        return self.in_flight_bytes // (3 if self.spools else 2)

    @property
    def fetch_bytes(self) -> int:
        """One answer to a fetch."""
        return self.held_bytes // _FETCHES_HELD

    @property
    def spool_bytes(self) -> int:
        """Objects in the spool."""
        return self.held_bytes if self.spools else 0


class KafkaSource(Reporting):
    """A :class:`connectors.contract.Source` over a consumer group."""

    def __init__(
        self,
        name: str,
        settings: KafkaSourceSettings,
        bounds: SourceBounds,
        open_reference: Callable[[str, str], Media],
        committer: Committer | None = None,
        spool: Spool | None = None,
    ) -> None:
        self.name, self.settings, self.bounds, self._spool = name, settings, bounds, spool
        self._path = f"sources.{name}"
        self._reader = RecordReader(name, settings.prompts, bounds.max_clip_bytes, open_reference)
        self._committer = committer or OffsetCommitter()
        self._partitions = Partitions(max_clips=bounds.max_clips, max_bytes=bounds.held_bytes)
        self._member: GroupMember | None = None
        self._queue: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._draining = False

    @property
    def waiting_for(self) -> str:
        """What is waited for now, for people; empty when nothing is."""
        if self._member is None or self._member.ended.is_set():
            return ""
        return self._member.waiting_for

    @property
    def counters(self) -> dict[str, int]:
        """What was counted since the start: null values, late settlements, clips lost to retention, commits, bytes."""
        member = self._member
        return {
            "skipped_null_values": member.skipped if member else 0,
            "late_settlements": self._partitions.late_settlements,
            "lost_to_retention": member.reader.lost_to_retention if member else 0,
            "commits": member.queue.commits if member else 0,
            "spooled_bytes": self._spool.received_bytes if self._spool else 0,
        }

    @property
    def held_bytes(self) -> int:
        """Encoded bytes of clips in flight: values, and objects in the spool."""
        return self._partitions.held_bytes + (self._spool.held_bytes if self._spool else 0)

    @property
    def lag(self) -> dict[tuple[str, str], int]:
        """How many records were not handed out yet, by topic and partition."""
        lag = self._member.reader.lag if self._member is not None else {}
        return {(topic, str(partition)): count for (topic, partition), count in lag.items()}

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Join the group, and yield clips until :meth:`drain`.

        Raises what only a person can mend, and :class:`Fatal` when the client does not return.
        """
        if self._draining:
            return
        if self._member is None:
            self._member = self._make_member()
            self._member.start()
        while not self._draining:
            delivery = await self._next(self._member)
            if delivery is None:
                break
            yield delivery
        if self._member.failure is not None:
            raise self._member.failure

    async def _next(self, member: GroupMember) -> Delivery | None:
        """Wait for a clip; :class:`Fatal` when the member's thread is stuck in the client. A restart loses nothing."""
        seen, still = member.turns, 0
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    return await self._queue.get()
            except TimeoutError:
                still = still + 1 if member.turns == seen and not member.ended.is_set() else 0
                seen = member.turns
            if still * LOOK_S >= STUCK_S:
                log.error("Source %s stands still here:\n%s", self.name, member.stack)
                raise Fatal(f"source {self.name}: the Kafka client did not return within {STUCK_S:.0f} s")

    def _make_member(self) -> GroupMember:
        reader = PartitionReader(self._partitions, self._reader.hand_out, once=self.bounds.once, path=self._path)
        queue = CommitQueue(self._committer, self._partitions, asyncio.get_running_loop())
        return GroupMember(
            self.name,
            reader,
            queue,
            connect=self._connect,
            subscribe=self._subscribe,
            offer=self._offer,
            explain_outage=self._explain_outage,
            commit_interval_s=self.bounds.commit_interval_s,
        )

    def _connect(self) -> KafkaConsumer:
        """Reach a broker and look that the topics are there; runs in the member's thread."""
        try:
            if self.settings.topics:
                check_topics(self.settings, self.settings.topics, "READ", path=f"{self._path}.topics")
            return open_consumer(
                self.settings,
                source=self.name,
                buffer_bytes=self.bounds.fetch_bytes,
                max_records=self.bounds.max_clips,
                path=self._path,
            )
        except BrokerAway:
            probe_connection(self.settings, path=self._path)  # raises where waiting can't help
            raise

    def _subscribe(self, consumer: KafkaConsumer, listener: Any) -> None:
        if self.settings.topic_pattern is not None:
            consumer.subscribe(pattern=f"(?:{self.settings.topic_pattern})$", listener=listener)
        else:
            consumer.subscribe(topics=list(self.settings.topics), listener=listener)

    def _explain_outage(self) -> str:
        try:
            return probe_connection(self.settings, path=self._path)
        except ConfigurationError as error:
            return str(error)  # it worked before, so a person may be mending it: waited for, like any outage

    def _offer(self, deliveries: Sequence[Delivery | None]) -> None:
        for delivery in deliveries:
            self._queue.put_nowait(delivery)

    async def settle(self, progress: Progress) -> None:
        """See :meth:`connectors.contract.Source.settle`; returns when a commit made it durable."""
        await self.publish(progress, ())

    async def publish(self, progress: Progress, records: Sequence[OutRecord]) -> None:
        """Make the progress durable, together with ``records`` where the committer writes transactions.

        A settlement that comes after its partition was revoked is counted and changes nothing.
        """
        origin = _origin(progress.delivery)
        plan_hash = None if progress.last else progress.plan_hash
        settlement = Settlement(origin.offset, progress.next_window, plan_hash, progress.last)
        await self._wait_for_commit(origin, settlement, records)

    async def quarantine(self, delivery: Delivery) -> None:
        """See :meth:`connectors.contract.Source.quarantine`."""
        origin = _origin(delivery)
        await self._wait_for_commit(
            origin, Settlement(origin.offset, quarantine=delivery.position.quarantine.raised()), ()
        )

    async def _wait_for_commit(
        self, origin: RecordOrigin, settlement: Settlement, records: Sequence[OutRecord]
    ) -> None:
        if self._member is None:
            raise RuntimeError(f"nothing was delivered by source {self.name} yet")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._member.publish(Publication(origin, settlement, tuple(records), waiter))
        await waiter

    async def drain(self) -> None:
        """Yield nothing more; the group is kept, and settlements still count."""
        self._draining = True
        if self._member is not None:
            self._member.reader.draining = True
        self._queue.put_nowait(None)

    async def close(self) -> None:
        """Commit what is ready and leave the group, within ``CLOSE_LIMIT_S`` whatever the broker does."""
        await self.drain()
        if self._member is None:
            self._committer.close(0)
            return
        self._member.close()
        try:
            await asyncio.wait_for(self._member.ended.wait(), CLOSE_LIMIT_S)
        except TimeoutError:
            log.warning("Source %s did not leave its group in time; the group will notice.", self.name)
        while not self._queue.empty():
            left = self._queue.get_nowait()
            if left is not None:
                left.clip.media.close()


def _origin(delivery: Delivery) -> RecordOrigin:
    if not isinstance(delivery.handle, RecordOrigin):
        raise TypeError(f"{delivery!r} is not a Kafka source's")
    return delivery.handle
