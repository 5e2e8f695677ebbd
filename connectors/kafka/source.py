"""Clips from Kafka topics, as a member of a consumer group.

This is the event loop's side of :mod:`connectors.kafka.consumer.thread`: deliveries come out of a queue that the thread
fills, and what becomes of them goes into a queue from which the thread commits. Whoever settles a clip waits until a
commit made it durable.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from connectors.contract import ClipPosition, Delivery, Progress, Reporting
from connectors.errors import Fatal
from connectors.kafka.client.consumer import Consumer, ConsumerRebalanceListener
from connectors.kafka.cluster import connect_consumer, explain_outage
from connectors.kafka.consumer.assigned_partitions import AssignedPartitions
from connectors.kafka.consumer.commit_queue import CommitQueue
from connectors.kafka.consumer.committer import Committer, OffsetCommitter
from connectors.kafka.consumer.fetcher import Fetcher
from connectors.kafka.consumer.placement import MOVES
from connectors.kafka.consumer.thread import COMMIT_LIMIT_S, LEAVE_LIMIT_S, ConsumerThread
from connectors.kafka.decoder import RecordDecoder
from connectors.kafka.offset_ledger import Outcome
from connectors.kafka.record import PendingCommit, ProducerRecord, SourceRecord
from connectors.kafka.replay_key import ReplayKey
from connectors.kafka.settings import KafkaSourceSettings
from connectors.media.protocols import Media
from connectors.media.spool import Spool

log = logging.getLogger(__name__)

CLOSE_LIMIT_S = COMMIT_LIMIT_S + 2 * LEAVE_LIMIT_S  # a commit that runs, then the last one, then leaving the group
LOOK_S = 10.0  # how often the consumer thread is looked at while no clip comes
STUCK_S = 300.0  # what a turn of it may take: each call of the client has a limit of some seconds, for each partition
_FETCHES_HELD = 4  # the client holds one answer and asks for the next; what it inflates, and a poll, are two more


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
        replay_key: ReplayKey | None = None,
    ) -> None:
        self.name, self.settings, self.bounds, self._spool = name, settings, bounds, spool
        self._path = f"sources.{name}"
        self._decoder = RecordDecoder(
            name,
            settings.topic_prompts,
            bounds.max_clip_bytes,
            open_reference,
            settings.senders_may,
            replay_key,
            settings.prompts_from_records != "replace",
        )
        self._committer = committer or OffsetCommitter()
        self._partitions = AssignedPartitions(max_clips=bounds.max_clips, max_bytes=bounds.held_bytes)
        self._thread: ConsumerThread | None = None
        self._queue: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._draining = False

    @property
    def waiting_for(self) -> str:
        """What is waited for now, for people; empty when nothing is."""
        if self._thread is None or self._thread.ended.is_set():
            return ""
        return self._thread.waiting_for

    @property
    def counters(self) -> dict[str, int]:
        """What was counted since the start: records that were not clips or not believed, clips lost, commits, bytes."""
        thread = self._thread
        return {
            "skipped_null_values": thread.skipped if thread else 0,
            "late_settlements": self._partitions.late_settlements,
            "unsigned_replays": self._decoder.unsigned_replays,
            "lost_to_retention": thread.fetcher.lost_to_retention if thread else 0,
            "standstills": thread.fetcher.standstills.begun if thread else 0,
            **{event: thread.fetcher.placement.counts[event] if thread else 0 for event in MOVES},
            "commits": thread.queue.commits if thread else 0,
            "spooled_bytes": self._spool.received_bytes if self._spool else 0,
        }

    @property
    def held_bytes(self) -> int:
        """Encoded bytes of clips in flight: values, and objects in the spool."""
        return self._partitions.held_bytes + (self._spool.held_bytes if self._spool else 0)

    @property
    def lag(self) -> dict[tuple[str, str], int]:
        """How many records were not delivered yet, by topic and partition."""
        lag = self._thread.fetcher.lag if self._thread is not None else {}
        return {(topic, str(partition)): count for (topic, partition), count in lag.items()}

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Join the group, and yield clips until :meth:`drain`.

        Raises what only a person can put right, and :class:`Fatal` when the client does not return.
        """
        if self._draining:
            return
        if self._thread is None:
            self._thread = self._make_thread()
            self._thread.start()
        while not self._draining:
            delivery = await self._next(self._thread)
            if delivery is None:
                break
            yield delivery
        if self._thread.failure is not None:
            raise self._thread.failure

    async def _next(self, thread: ConsumerThread) -> Delivery | None:
        """Wait for a clip; :class:`Fatal` when the thread is stuck in the client, for a restart loses nothing."""
        if not self._queue.empty():
            return self._queue.get_nowait()
        seen, still = thread.turns, 0
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    return await self._queue.get()
            except TimeoutError:
                still = still + 1 if thread.turns == seen and not thread.ended.is_set() else 0
                seen = thread.turns
            if still * LOOK_S >= STUCK_S:
                log.error("Source %s stands still here:\n%s", self.name, thread.stack)
                raise Fatal(f"source {self.name}: the Kafka client did not return within {STUCK_S:.0f} s")

    def _make_thread(self) -> ConsumerThread:
        return ConsumerThread(
            self.name,
            Fetcher(self._partitions, self._decoder.decode, once=self.bounds.once, path=self._path),
            CommitQueue(self._committer, self._partitions, asyncio.get_running_loop()),
            connect=self._connect,
            subscribe=self._subscribe,
            deliver=self._deliver,
            untaken=self._untaken,
            explain_outage=partial(explain_outage, self.settings, path=self._path),
            commit_interval_s=self.bounds.commit_interval_s,
        )

    def _connect(self) -> Consumer:
        """Reach a broker and look that the topics are there; runs in the consumer thread."""
        return connect_consumer(
            self.settings,
            source=self.name,
            buffer_bytes=self.bounds.fetch_bytes,
            max_records=self.bounds.max_clips,
            path=self._path,
        )

    def _subscribe(self, consumer: Consumer, listener: ConsumerRebalanceListener) -> None:
        if self.settings.topic_pattern is not None:
            consumer.subscribe(pattern=f"(?:{self.settings.topic_pattern})$", listener=listener)
        else:
            consumer.subscribe(topics=list(self.settings.topics), listener=listener)

    def _untaken(self) -> int:
        """Return how many clips wait here for a slot; where there are any, another one is being handed over."""
        waiting = self._queue.qsize()
        return waiting + 1 if waiting else 0

    def _deliver(self, deliveries: Sequence[Delivery | None]) -> None:
        for delivery in deliveries:
            self._queue.put_nowait(delivery)

    async def settle(self, progress: Progress) -> None:
        """See :meth:`connectors.contract.Source.settle`; returns when a commit made it durable."""
        await self.publish(progress, ())

    async def publish(self, progress: Progress, records: Sequence[ProducerRecord]) -> None:
        """Make the progress durable, together with ``records`` where the committer writes transactions.

        What comes after its partition was revoked is counted and changes nothing.
        """
        outcome = None if progress.last else ClipPosition(progress.next_window, progress.plan_hash)
        await self._commit(progress.delivery, outcome, records)

    async def quarantine(self, delivery: Delivery) -> None:
        """See :meth:`connectors.contract.Source.quarantine`."""
        await self._commit(delivery, delivery.position.quarantine.raised(), ())

    async def _commit(self, delivery: Delivery, outcome: Outcome, records: Sequence[ProducerRecord]) -> None:
        if self._thread is None:
            raise RuntimeError(f"nothing was delivered by source {self.name} yet")
        if not isinstance(delivery.handle, SourceRecord):
            raise TypeError(f"{delivery!r} is not a Kafka source's")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._thread.add(PendingCommit(delivery.handle, outcome, tuple(records), waiter))
        await waiter

    async def drain(self) -> None:
        """Yield nothing more; the group is kept, and what was yielded can still be settled."""
        self._draining = True
        if self._thread is not None:
            self._thread.fetcher.draining = True
        self._queue.put_nowait(None)

    async def close(self) -> None:
        """Commit what is ready and leave the group, within ``CLOSE_LIMIT_S`` whatever the broker does."""
        await self.drain()
        if self._thread is None:
            self._committer.close(0)
            return
        self._thread.close()
        try:
            await asyncio.wait_for(self._thread.ended.wait(), CLOSE_LIMIT_S)
        except TimeoutError:
            log.warning("Source %s did not leave its group in time; the group will notice.", self.name)
        while not self._queue.empty():
            left = self._queue.get_nowait()
            if left is not None:
                left.clip.media.close()
