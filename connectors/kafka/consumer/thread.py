"""The consumer thread: it owns a source's consumer and its transactional producer.

The thread polls always, so that the group never takes it for dead: a full pipeline pauses partitions instead. All that
touches a ledger happens here, in this order, over and over:

1. Revoked partitions: what is ready is committed, then the ledger is fenced. Only the next poll lets the group move on,
   so nobody else owns the partition before its fence is closed.
2. Assigned partitions: their position is read, and only then are they unpaused.
3. Partitions are paused while there is no room, and unpaused when there is.
4. Poll, and deliver the new clips.
5. All that is ready is committed together, at most once in a commit interval; at once where every clip that is worked
   on waits for it, for then nothing comes that could share the commit.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from connectors.contract import Delivery
from connectors.errors import ConfigurationError
from connectors.kafka.client.consumer import Consumer, ConsumerRebalanceListener, TopicPartition
from connectors.kafka.client.errors import KafkaFault, NotAMember
from connectors.kafka.client.outage import AWAY_AFTER_S, Outage
from connectors.kafka.consumer.commit_queue import CommitQueue
from connectors.kafka.consumer.fetcher import Fetcher
from connectors.kafka.record import PendingCommit

log = logging.getLogger(__name__)

COMMIT_LIMIT_S = 12.0  # above the delivery time-out (10 s), below the transaction's (15 s)
REVOKE_LIMIT_S = 4.0  # the group waits for us meanwhile; a commit takes 0.06 s, and one that takes 4 s is in trouble
LEAVE_LIMIT_S = 4.0  # to commit what is ready at the end, and again to leave the group

Event = tuple[str, set[TopicPartition]]


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Only notes what the group decided: it runs on the client's own thread, which also sends the heartbeats."""

    def __init__(self, consumer: Consumer, events: deque[Event]) -> None:
        self._consumer, self._events = consumer, events

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._consumer.pause(*assigned)  # until their position is known
        self._events.append(("assigned", set(assigned)))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._events.append(("revoked", set(revoked)))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._events.append(("lost", set(lost)))


class ConsumerThread:
    """Runs the loop above in a thread of its own.

    The event loop only calls :meth:`add` and :meth:`close`; ``deliver`` is called in the event loop, with None
    after the last clip. ``untaken`` says how many delivered clips nobody works on yet.
    """

    def __init__(
        self,
        name: str,
        fetcher: Fetcher,
        queue: CommitQueue,
        *,
        connect: Callable[[], Consumer],
        subscribe: Callable[[Consumer, ConsumerRebalanceListener], None],
        deliver: Callable[[Sequence[Delivery | None]], None],
        untaken: Callable[[], int],
        explain_outage: Callable[[], str],
        commit_interval_s: float,
    ) -> None:
        self.name, self.fetcher, self.queue = name, fetcher, queue
        self.skipped = 0
        self.turns = 0  # rises while the thread gets on, an outage included
        self.failure: BaseException | None = None
        self.ended = asyncio.Event()
        self._connect, self._subscribe, self._deliver, self._untaken = connect, subscribe, deliver, untaken
        self._interval_s = commit_interval_s
        self._outage = Outage(f"Source {name}", explain_outage)
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._closing = threading.Event()
        self._is_subscribed = False
        self._unanswered_since_s: float | None = None  # the first of the commits in a row without an answer
        self._group_changes = False  # since a commit was refused for it, until one is not
        self._commit_at_s = self._retry_at_s = self._place_at_s = 0.0
        self._consumer: Consumer | None = None
        self._thread = threading.Thread(target=self._run, name=f"kafka {name}", daemon=True)

    @property
    def waiting_for(self) -> str:
        """What is waited for now; empty when nothing is."""
        if told := self._outage.waiting_for:
            return told
        if not self._is_subscribed:
            return "the broker"
        since_s = self._unanswered_since_s
        if since_s is not None and time.monotonic() - since_s > AWAY_AFTER_S:
            return "the broker: a commit is not answered"
        return self.fetcher.standstills.waiting_for

    @property
    def stack(self) -> str:
        """Where the thread is now."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None else "it has ended\n"

    def start(self) -> None:
        """Start the thread: it connects, and joins the group."""
        self._thread.start()

    def add(self, pending: PendingCommit) -> None:
        """Put a pending commit in line, and wake the thread where it is to commit sooner than it thought."""
        self.queue.add(pending)
        if self._consumer is not None and (len(self.queue) == 1 or self._all_wait()):
            self._consumer.wake()

    def _all_wait(self) -> bool:
        """Whether every clip that is worked on waits for the next commit; those that nobody took wait for these."""
        return len(self.queue) >= self.fetcher.partitions.clips_in_flight - self._untaken()

    def close(self) -> None:
        """Ask the thread to commit what is ready and to leave the group; ``ended`` is set when it did."""
        self.fetcher.draining = True
        self._closing.set()
        if self._thread.ident is None:
            self._end()

    def _run(self) -> None:
        consumer: Consumer | None = None
        try:
            self._consumer = consumer = self._join()
            while consumer is not None and not self._closing.is_set():
                self._turn(consumer)
        except ConfigurationError as error:
            self.failure = error
        except BaseException as error:
            log.exception("Source %s stops.", self.name)
            self.failure = error
        finally:
            self._leave(consumer)

    def _join(self) -> Consumer | None:
        """Connect and subscribe; a transactional producer is ready before the group can hand out a partition."""
        consumer: Consumer | None = None
        while not self._closing.is_set():
            self.turns += 1
            try:
                if consumer is None:
                    consumer = self._connect()
                self.queue.committer.prepare()
                self._subscribe(consumer, _Rebalances(consumer, self._events))
                self._outage.reachable()
                self._is_subscribed = True
                return consumer
            except KafkaFault as fault:
                self._closing.wait(self._outage.failed(fault))
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=0)
        return None

    def _turn(self, consumer: Consumer) -> None:
        """Do the module's five steps; what stands in their way now is tried again after a back-off, polling on."""
        self.turns += 1
        try:
            self._rebalance(consumer)
            self.fetcher.pause_or_resume(consumer)
            self._poll(consumer)
            self._rebalance(consumer)
            self._commit(consumer)
        except NotAMember as moved:
            self._unanswered_since_s = None
            if not self._group_changes:
                log.info("Source %s: the group is changing (%s).", self.name, moved)
            self._group_changes = True
            self._retry_at_s = time.monotonic() + self._interval_s
        except KafkaFault as fault:
            self._retry_at_s = time.monotonic() + self._outage.failed(fault)

    def _due_s(self) -> float:
        """Return when the next commit is due."""
        goes_now = self._all_wait() and not self.queue.is_in_doubt
        return self._retry_at_s if goes_now else max(self._commit_at_s, self._retry_at_s)

    def _commit(self, consumer: Consumer) -> None:
        """Commit all that is ready, when it is time."""
        if not len(self.queue):
            self._unanswered_since_s = None
            return
        now_s = time.monotonic()
        if now_s < self._due_s():
            return
        self._commit_at_s = now_s + self._interval_s
        self._unanswered_since_s = self._unanswered_since_s or now_s
        self.queue.commit(consumer, COMMIT_LIMIT_S)
        if not self.queue.is_in_doubt:
            self._unanswered_since_s, self._group_changes = None, False
            self._outage.succeeded()

    def _rebalance(self, consumer: Consumer) -> None:
        """Follow what the group decided, in its order: steps 1 and 2."""
        while self._events:
            kind, changed = self._events.popleft()
            places = [tuple(partition) for partition in changed]
            if kind == "assigned":
                self.fetcher.assign(changed)
                continue
            self.fetcher.forget(changed)
            if kind == "revoked":
                self.queue.revoke(consumer, places, REVOKE_LIMIT_S)
            else:
                self.queue.lose(places)
            log.info("Source %s: %d partitions %s.", self.name, len(places), kind)
        if outdated := self.fetcher.take_outdated():
            self.queue.lose([tuple(partition) for partition in outdated])
        if time.monotonic() >= self._place_at_s:
            self._place(consumer)

    def _place(self, consumer: Consumer) -> None:
        """Begin new partitions. While that fails it is tried again after a back-off, and what has begun is polled."""
        try:
            self.fetcher.place(consumer)
            self._place_at_s = 0.0
        except KafkaFault as fault:
            self._place_at_s = time.monotonic() + self._outage.failed(fault)
        while self.fetcher.moved:
            self.queue.add(self.fetcher.moved.pop())

    def _poll(self, consumer: Consumer) -> None:
        wait_s = self._interval_s
        if len(self.queue):
            wait_s = min(max(self._due_s() - time.monotonic(), 0.0), wait_s)
        deliveries: list[Delivery | None] = []
        for taken in self.fetcher.poll(consumer, wait_s):
            if isinstance(taken, PendingCommit):
                self.skipped += 1
                self.queue.add(taken)
            else:
                deliveries.append(taken)
        if self.fetcher.once and not deliveries and not self._events and consumer.is_joined():
            deliveries = [None] if self.fetcher.is_at_the_ends(consumer) else []
        if deliveries:
            self._loop.call_soon_threadsafe(self._deliver, deliveries)
        self._watch(consumer)

    def _watch(self, consumer: Consumer) -> None:
        """Tell an outage from the quiet of an empty topic: polling says nothing about either.

        A coordinator that is known and answers no commit has not come back: only an answer ends that outage.
        """
        if not consumer.is_reachable():
            self._outage.unreachable("the group's coordinator is away")
        elif self._unanswered_since_s is None and not self._place_at_s:
            self._outage.reachable()

    def _leave(self, consumer: Consumer | None) -> None:
        """Commit what is ready, leave the group, and answer everyone who still waits."""
        try:
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
        """Let everyone who waits go on. To be called in the event loop, after the thread's last word."""
        self.ended.set()
        self.queue.close(self.failure)
        self._deliver([None])
