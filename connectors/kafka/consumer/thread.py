"""One member of a consumer group: the thread that owns a source's consumer and its transactional producer.

The thread polls always, so that the group never takes it for dead: a full pipeline pauses partitions instead. All that
touches a ledger happens here, in this order, over and over:

1. Revoked partitions: what is ready is committed, then the ledger is fenced. Only the next poll lets the group move on,
   so nobody else owns the partition before its fence is closed.
2. Assigned partitions: their position is read, and only then are they unpaused.
3. Partitions are paused while there is no room, and unpaused when there is.
4. Poll, and hand the new clips over.
5. All that is ready is committed together, at most once in a commit interval.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from connectors.errors import ConfigurationError
from connectors.kafka.client.consumer import (
    ConsumerRebalanceListener,
    KafkaConsumer,
    KafkaFault,
    NotAMember,
    TopicPartition,
    is_joined,
    is_reachable,
)
from connectors.kafka.consumer.commit_queue import CommitQueue, answer
from connectors.kafka.consumer.fetcher import PartitionReader, is_skipped
from connectors.kafka.record import Publication

log = logging.getLogger(__name__)

COMMIT_LIMIT_S = 12.0  # above the delivery time-out (10 s), below the transaction's (15 s)
REVOKE_LIMIT_S = 4.0  # the group waits for us meanwhile; a commit takes 0.06 s, and one that takes 4 s is in trouble
LEAVE_LIMIT_S = 4.0  # to commit what is ready at the end, and again to leave the group
BACK_OFF_S = (
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
)  # between tries while a broker is away; the last bounds how late its return shows
AWAY_AFTER_S = 3.0  # a coordinator that moves is unknown for a moment; only a longer one is an outage

Event = tuple[str, set[TopicPartition]]


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Only notes what happened: it runs on the client's own thread, which also sends the heartbeats."""

    def __init__(self, consumer: KafkaConsumer, events: deque[Event]) -> None:
        self._consumer, self._events = consumer, events

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._consumer.pause(*assigned)  # until their position is known
        self._events.append(("assigned", set(assigned)))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._events.append(("revoked", set(revoked)))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._events.append(("lost", set(lost)))


class GroupMember:
    """Runs the loop above in a thread of its own. The event loop only calls :meth:`publish` and :meth:`close`."""

    def __init__(
        self,
        name: str,
        reader: PartitionReader,
        queue: CommitQueue,
        *,
        connect: Callable[[], KafkaConsumer],
        subscribe: Callable[[KafkaConsumer, ConsumerRebalanceListener], None],
        offer: Callable[[Sequence[Any]], None],
        explain_outage: Callable[[], str],
        commit_interval_s: float,
    ) -> None:
        self.name, self.reader, self.queue = name, reader, queue
        self._waiting_for = "the broker"
        self._unanswered_since_s: float | None = None  # the first of the commits in a row without an answer
        self.skipped = 0
        self.turns = 0  # rises while the thread gets on, an outage included
        self.failure: BaseException | None = None
        self.ended = asyncio.Event()
        self._connect, self._subscribe, self._offer = connect, subscribe, offer
        self._explain_outage, self._interval_s = explain_outage, commit_interval_s
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[Publication] = deque()
        self._events: deque[Event] = deque()
        self._closing = threading.Event()
        self._tries = 0
        self._group_changes = False  # since a commit was refused for it, until one is not
        self._commit_at_s = 0.0
        self._away_since_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"kafka {name}", daemon=True)

    @property
    def waiting_for(self) -> str:
        """What is waited for now; empty when nothing is."""
        since_s = self._unanswered_since_s
        if not self._waiting_for and since_s is not None and time.monotonic() - since_s > AWAY_AFTER_S:
            return "the broker: a commit is not answered"
        return self._waiting_for

    @property
    def stack(self) -> str:
        """Where the thread is now."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None else "it has ended\n"

    def start(self) -> None:
        """Start the thread: it connects, and joins the group."""
        self._thread.start()

    def publish(self, publication: Publication) -> None:
        """Put something in line for the next commit; its waiter hears of it."""
        if self.ended.is_set():
            if publication.waiter is not None:
                answer([publication.waiter], self.failure)
            return
        self._inbox.append(publication)

    def close(self) -> None:
        """Ask the thread to commit what is ready and to leave the group; ``ended`` is set when it did."""
        self.reader.draining = True
        self._closing.set()
        if self._thread.ident is None:
            self.ended.set()

    def _run(self) -> None:
        consumer: KafkaConsumer | None = None
        try:
            consumer = self._join()
            while consumer is not None and not self._closing.is_set():
                self._turn(consumer)
        except ConfigurationError as error:
            self.failure = error
        except BaseException as error:
            log.exception("Source %s stops.", self.name)
            self.failure = error
        finally:
            self._leave(consumer)

    def _join(self) -> KafkaConsumer | None:
        """Connect and subscribe; a transactional producer is ready before the group can hand out a partition."""
        consumer: KafkaConsumer | None = None
        while not self._closing.is_set():
            self.turns += 1
            try:
                if consumer is None:
                    consumer = self._connect()
                self.queue.committer.prepare()
                self._subscribe(consumer, _Rebalances(consumer, self._events))
                self._waiting_for = ""
                return consumer
            except KafkaFault as fault:
                self._closing.wait(self._note_outage(fault))
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=0)
        return None

    def _turn(self, consumer: KafkaConsumer) -> None:
        """Do the module's five steps; what stands in their way now is tried again after a back-off, polling on."""
        self.turns += 1
        try:
            self._rebalance(consumer)
            self.reader.pause_or_resume(consumer)
            self._poll(consumer)
            self._rebalance(consumer)
            self._take_inbox()
            self._commit(consumer)
        except NotAMember as moved:
            self._unanswered_since_s = None
            if not self._group_changes:
                log.info("Source %s: the group is changing (%s).", self.name, moved)
            self._group_changes = True
        except KafkaFault as fault:
            self._commit_at_s = time.monotonic() + self._note_outage(fault)

    def _commit(self, consumer: KafkaConsumer) -> None:
        """Commit all that is ready, when it is time."""
        if not len(self.queue):
            self._unanswered_since_s = None
            return
        now_s = time.monotonic()
        if now_s < self._commit_at_s:
            return
        self._commit_at_s = now_s + self._interval_s
        self._unanswered_since_s = self._unanswered_since_s or now_s
        self.queue.commit(consumer, COMMIT_LIMIT_S)
        if not self.queue.is_in_doubt:
            self._unanswered_since_s, self._tries, self._group_changes = None, 0, False

    def _rebalance(self, consumer: KafkaConsumer) -> None:
        """Follow what the group decided, in its order: steps 1 and 2."""
        while self._events:
            kind, changed = self._events.popleft()
            places = [tuple(partition) for partition in changed]
            if kind == "assigned":
                self.reader.assign(changed)
                continue
            self.reader.forget(changed)
            if kind == "revoked":
                self._take_inbox()
                self.queue.revoke(consumer, places, REVOKE_LIMIT_S)
            else:
                self.queue.lose(places)
            log.info("Source %s: %d partitions %s.", self.name, len(places), kind)
        self.reader.place(consumer)

    def _poll(self, consumer: KafkaConsumer) -> None:
        wait_s = self._interval_s
        if len(self.queue) or self._inbox:
            wait_s = min(max(self._commit_at_s - time.monotonic(), 0.0), wait_s)
        offered: list[Any] = []
        for taken in self.reader.poll(consumer, wait_s):
            if is_skipped(taken):
                self.skipped += 1
                self.queue.add(taken)
            else:
                offered.append(taken)
        if self.reader.once and not offered and not self._events and is_joined(consumer):
            offered = [None] if self.reader.is_at_the_ends(consumer) else []
        if offered:
            self._loop.call_soon_threadsafe(self._offer, offered)
        self._watch(consumer)

    def _take_inbox(self) -> None:
        while self._inbox:
            self.queue.add(self._inbox.popleft())

    def _watch(self, consumer: KafkaConsumer) -> None:
        """Tell an outage from the quiet of an empty topic: polling says nothing about either."""
        if is_reachable(consumer):
            if self._away_since_s is not None and self._waiting_for:
                log.info("Source %s: the broker is back.", self.name)
            self._away_since_s, self._waiting_for = None, ""
        elif self._away_since_s is None:
            self._away_since_s = time.monotonic()
        elif time.monotonic() - self._away_since_s > AWAY_AFTER_S and not self._waiting_for:
            self._note_outage(None)

    def _note_outage(self, fault: KafkaFault | None) -> float:
        """Say what is waited for, once an outage, and return how long to back off."""
        pause_s = BACK_OFF_S[min(self._tries, len(BACK_OFF_S) - 1)]
        self._tries += 1
        if self._tries > 1 or fault is None:
            reason = self._explain_outage() or str(fault or "the group's coordinator is away")
            if not self._waiting_for or self._waiting_for == "the broker":
                log.warning("Source %s waits for the broker: %s.", self.name, reason)
            self._away_since_s = self._away_since_s or time.monotonic()
            self._waiting_for = f"the broker: {reason}"
        return pause_s

    def _leave(self, consumer: KafkaConsumer | None) -> None:
        """Commit what is ready, leave the group, and answer everyone who still waits."""
        try:
            self._take_inbox()
            if consumer is not None and self.failure is None and len(self.queue):
                self.queue.commit(consumer, LEAVE_LIMIT_S)
        except Exception as error:
            log.warning("Source %s leaves before its last commit: %s.", self.name, error)
        try:
            if consumer is not None:
                consumer.close(autocommit=False, timeout_ms=int(LEAVE_LIMIT_S * 1000))
            self.queue.committer.close(LEAVE_LIMIT_S)
        except Exception as error:
            log.warning("Source %s could not leave its group: %s.", self.name, error)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        """Runs in the event loop, after the thread's last word."""
        self.ended.set()
        self._take_inbox()
        self.queue.fail(self.failure)
        self._offer([None])
