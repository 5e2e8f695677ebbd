"""The consumer thread polls always, commits in its order, gives partitions up after one commit, and answers all."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from kafka.errors import CommitFailedError, KafkaTimeoutError, TopicAuthorizationFailedError

from connectors.contract import Clip, ClipPosition, Delivery
from connectors.errors import ConfigurationError
from connectors.kafka.client import outage
from connectors.kafka.client.errors import BrokerAway
from connectors.kafka.consumer import fetcher as fetcher_module
from connectors.kafka.consumer import thread as thread_module
from connectors.kafka.consumer.assigned_partitions import AssignedPartitions
from connectors.kafka.consumer.commit_queue import CommitQueue
from connectors.kafka.consumer.committer import OffsetCommitter
from connectors.kafka.consumer.fetcher import Fetcher
from connectors.kafka.consumer.thread import ConsumerThread
from connectors.kafka.offset_ledger import Outcome
from connectors.kafka.record import PendingCommit, SourceRecord
from connectors.media.bytes import BytesMedia
from tests.unit.connectors.kafka.scripted_client import Record, ScriptedConsumer, clips, partition

PLACE, OTHER = partition(0), partition(1)
NEVER_S = 3600.0  # a commit interval that is never over: after the first commit, a revoke or the end commits
FIRST = Record("clips", 0, 0, None)  # is skipped, and so the first commit
HASH = "ab" * 8


class Prepared(OffsetCommitter):
    """Commits positions; its start may fail."""

    def __init__(self) -> None:
        self.faults = deque[Exception]()
        self.is_closed = False

    def prepare(self) -> None:
        if self.faults:
            raise self.faults.popleft()

    def close(self, limit_s: float) -> None:
        self.is_closed = True


class Running:
    """A consumer thread over a scripted consumer, and what it delivered."""

    def __init__(
        self,
        *records: Record,
        interval_s: float = 0.005,
        once: bool = False,
        max_clips: int = 10,
        reason: str = "nothing listens",
    ) -> None:
        self.consumer: Any = ScriptedConsumer(records)
        self.connecting = deque[Exception]()
        self.committer = Prepared()
        self.partitions = AssignedPartitions(max_clips=max_clips, max_bytes=1000)
        self.delivered: list[Delivery | None] = []
        self.thread = ConsumerThread(
            "clips",
            Fetcher(self.partitions, self._decode, once=once, path="sources.clips"),
            CommitQueue(self.committer, self.partitions, asyncio.get_running_loop()),
            connect=self._connect,
            subscribe=lambda consumer, listener: consumer.subscribe(listener=listener),
            deliver=self.delivered.extend,
            explain_outage=lambda: reason,
            commit_interval_s=interval_s,
        )

    def _connect(self) -> Any:
        if self.connecting:
            raise self.connecting.popleft()
        return self.consumer

    def _decode(self, record: Any, position: ClipPosition, assignment: int) -> Delivery | PendingCommit:
        origin = SourceRecord(record.topic, record.partition, record.offset, assignment)
        if record.value is None:
            return PendingCommit(origin, None)
        name = f"{record.partition}/{record.offset}"
        return Delivery(Clip(name, "clips", BytesMedia(name, record.value), 0), position, origin)

    def change(self, kind: str, *partitions: Any) -> None:
        """Let the group decide, in the next round of polling."""
        self.consumer.changes.append((kind, set(partitions)))

    @property
    def names(self) -> list[str]:
        return [delivery.clip.clip_id for delivery in self.delivered if delivery is not None]

    async def delivers(self, *names: str) -> Sequence[Delivery]:
        """Wait until these clips were delivered, in any order, and nothing else."""
        await until(lambda: len(self.names) >= len(names))
        assert sorted(self.names) == sorted(names)
        return sorted(
            (delivery for delivery in self.delivered if delivery is not None), key=lambda each: each.clip.clip_id
        )

    def publish(self, delivery: Delivery, outcome: Outcome = None) -> "asyncio.Future[None]":
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        assert isinstance(delivery.handle, SourceRecord)
        self.thread.queue.add(PendingCommit(delivery.handle, outcome, (), waiter))
        return waiter

    async def has_committed(self) -> None:
        """Wait for the first commit."""
        await until(lambda: self.thread.queue.commits == 1)
        await self.polls()

    async def polls(self, rounds: int = 3) -> None:
        """Wait for some more turns."""
        seen = self.thread.turns
        await until(lambda: self.thread.turns >= seen + rounds)

    def stored(self, place: Any = PLACE) -> int | None:
        found = self.consumer.stored.get(place)
        return None if found is None else found.offset


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running(made: Running, *numbers: int) -> AsyncIterator[Running]:
    """Run the thread, whose group gives it some partitions, and end it."""
    if numbers:
        made.change("assigned", *(partition(number) for number in numbers))
    made.thread.start()
    try:
        yield made
    finally:
        made.thread.close()
        async with asyncio.timeout(5):
            await made.thread.ended.wait()
        made.thread._thread.join(5)


@pytest.fixture(autouse=True)
def no_back_off(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(outage, "BACK_OFF_S", (0.001,))
    caplog.set_level(logging.INFO)


async def test_a_clip_is_delivered_and_its_end_committed() -> None:
    async with running(Running(*clips(0, 0, 1)), 0) as made:
        first, _ = await made.delivers("0/0", "0/1")
        await made.publish(first, ClipPosition(2, HASH))
        assert made.stored() == 0
        await made.publish(first)
        assert made.stored() == 1

    assert made.delivered[-1] is None
    assert (made.consumer.is_closed, made.committer.is_closed) == (True, True)


async def test_all_that_is_ready_within_an_interval_is_one_commit() -> None:
    async with running(Running(*clips(0, *range(8)), interval_s=0.2), 0) as made:
        taken = await made.delivers(*(f"0/{offset}" for offset in range(8)))
        await made.publish(taken[0])
        await asyncio.gather(*(made.publish(delivery) for delivery in taken[1:]))

    assert made.thread.queue.commits == 2
    assert made.stored() == 8


async def test_null_values_are_counted_and_committed() -> None:
    async with running(Running(*clips(0, 0, 1, value=None)), 0) as made:
        await until(lambda: made.stored() == 2)

    assert (made.thread.skipped, made.names) == (2, [])


async def test_a_revoke_commits_once_then_fences_before_the_group_hears_of_it() -> None:
    async with running(Running(FIRST, *clips(0, 1, 2), *clips(1, 0), interval_s=NEVER_S), 0, 1) as made:
        first, second, other = await made.delivers("0/1", "0/2", "1/0")
        await made.has_committed()
        ready = [made.publish(first), made.publish(other)]
        await made.polls()
        assert (made.stored(PLACE), made.stored(OTHER)) == (1, None)
        made.change("revoked", PLACE)
        await asyncio.gather(*ready)

        late = made.publish(second)
        await made.polls()
        assert (made.stored(PLACE), made.stored(OTHER)) == (2, 1)
        assert made.partitions.places == {OTHER}
    await late

    happened = made.consumer.happened
    revoked = happened.index("revoked")
    assert happened[revoked + 1] == "commit"  # and only then the round that lets the group move on
    assert happened.count("commit") == 2
    assert made.partitions.late_settlements == 1


async def test_a_revoke_whose_commit_fails_gives_the_partition_up_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(Running(FIRST, *clips(0, 1), interval_s=NEVER_S), 0) as made:
        (first,) = await made.delivers("0/1")
        await made.has_committed()
        made.consumer.faults.add("commit", CommitFailedError("too late"))
        ready = made.publish(first)
        made.change("revoked", PLACE)
        await ready
        await made.polls()

    assert (made.stored(), made.partitions.places) == (1, frozenset())
    assert "Partitions are given up before their last commit: CommitFailedError: too late." in caplog.text
    assert "Source clips: 1 partitions revoked." in caplog.text


async def test_a_partition_that_is_lost_is_not_committed() -> None:
    async with running(Running(FIRST, *clips(0, 1), interval_s=NEVER_S), 0) as made:
        (first,) = await made.delivers("0/1")
        await made.has_committed()
        ready = made.publish(first)
        made.change("lost", PLACE)
        await ready

    assert (made.stored(), made.consumer.happened.count("commit")) == (1, 1)
    assert made.partitions.late_settlements == 1


async def test_a_partition_that_comes_back_waits_until_its_old_clip_has_ended() -> None:
    async with running(Running(*clips(0, 0)), 0) as made:
        (old,) = await made.delivers("0/0")
        made.change("revoked", PLACE)
        made.change("assigned", PLACE)
        await until(lambda: made.consumer.happened.count("assigned") == 2)
        await made.polls()
        assert made.names == ["0/0"]

        await made.publish(old)
        await until(lambda: made.names == ["0/0", "0/0"])
        assert made.stored() is None
        await made.publish(made.delivered[-1] or old)
        assert made.stored() == 1


async def test_a_full_pipeline_pauses_partitions_and_polls_on() -> None:
    async with running(Running(*clips(0, *range(5)), max_clips=2), 0) as made:
        first, _ = await made.delivers("0/0", "0/1")
        await made.polls(10)
        assert (made.names, made.consumer.paused()) == (["0/0", "0/1"], {PLACE})
        await made.publish(first)
        await made.delivers("0/0", "0/1", "0/2")


async def test_a_commit_that_the_group_refuses_is_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Running(*clips(0, 0)), 0) as made:
        (first,) = await made.delivers("0/0")
        made.consumer.faults.add("commit", *[CommitFailedError("a rebalance")] * 3)
        await made.publish(first)

    assert made.stored() == 1
    assert caplog.messages.count("Source clips: the group is changing (CommitFailedError: a rebalance).") == 1


async def test_a_broker_that_is_away_at_the_start_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    made = Running(*clips(0, 0))
    assert made.thread.waiting_for == "the broker"
    made.connecting.extend([BrokerAway("refused")] * 3)
    made.committer.faults.append(BrokerAway("no coordinator"))
    async with running(made, 0):
        await made.delivers("0/0")
        assert made.thread.waiting_for == ""

    told = [message for message in caplog.messages if "broker" in message]
    assert told == ["Source clips waits for the broker: nothing listens.", "Source clips: the broker is back."]


async def test_a_broker_that_goes_is_told_waited_for_and_told_to_be_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outage, "AWAY_AFTER_S", 0.02)
    async with running(Running(*clips(0, 0)), 0) as made:
        (first,) = await made.delivers("0/0")
        made.consumer.reachable = False
        await until(lambda: made.thread.waiting_for == "the broker: nothing listens")
        ready = made.publish(first)
        await made.polls()
        assert (made.stored(), ready.done()) == (None, False)

        made.consumer.reachable = True
        await ready
        await until(lambda: made.thread.waiting_for == "")

    told = [message for message in caplog.messages if "broker" in message]
    assert told == ["Source clips waits for the broker: nothing listens.", "Source clips: the broker is back."]


async def test_a_commit_that_is_not_answered_for_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_module, "AWAY_AFTER_S", 0.02)
    async with running(Running(*clips(0, 0), reason=""), 0) as made:
        (first,) = await made.delivers("0/0")
        made.consumer.faults.add("commit", *[KafkaTimeoutError("late")] * 10_000)
        ready = made.publish(first)
        await until(lambda: made.thread.waiting_for == "the broker: a commit is not answered")
        made.consumer.faults = ScriptedConsumer().faults
        await ready
        await until(lambda: made.thread.waiting_for == "")


async def test_a_round_of_polling_that_fails_is_tried_again() -> None:
    made = Running(*clips(0, 0))
    made.consumer.faults.add("poll_once", OSError("cut"), KafkaTimeoutError("late"))

    async with running(made, 0):
        await made.delivers("0/0")


async def test_once_ends_after_what_was_there() -> None:
    async with running(Running(*clips(0, 0, 1), once=True), 0) as made:
        await until(lambda: None in made.delivered)

    assert made.names == ["0/0", "0/1"]


async def test_once_waits_for_the_group_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher_module, "NO_PARTITIONS_S", 0.0)
    made = Running(once=True)
    made.consumer.stable = False
    async with running(made):
        await made.polls(10)
        assert made.delivered == []
        made.consumer.stable = True
        await until(lambda: None in made.delivered)


async def test_the_end_commits_what_is_ready_and_leaves_the_group() -> None:
    async with running(Running(FIRST, *clips(0, 1), interval_s=NEVER_S), 0) as made:
        (first,) = await made.delivers("0/1")
        await made.has_committed()
        ready = made.publish(first)
    await ready

    assert made.stored() == 2
    assert made.consumer.happened[-2:] == ["commit", "leave"]
    assert made.thread.stack == "it has ended\n"


async def test_the_end_without_a_broker_answers_those_who_wait(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Running(*clips(0, 0), interval_s=NEVER_S), 0) as made:
        (first,) = await made.delivers("0/0")
        made.consumer.reachable = False
        ready = made.publish(first)
    await ready
    await made.publish(first)  # after the end nobody waits

    assert made.stored() is None
    assert "Source clips leaves before its last commit: the group's coordinator is away." in caplog.text


async def test_what_only_a_person_can_put_right_ends_the_thread() -> None:
    made = Running(FIRST, *clips(0, 1), interval_s=NEVER_S)
    async with running(made, 0):
        (first,) = await made.delivers("0/1")
        await made.has_committed()
        ready = made.publish(first)
        made.consumer.faults.add("poll_once", TopicAuthorizationFailedError({"clips"}))
        await made.thread.ended.wait()

    assert isinstance(made.thread.failure, ConfigurationError)
    for waiter in (ready, made.publish(first)):
        with pytest.raises(ConfigurationError, match="no rights on the topic clips"):
            await waiter
    assert (made.stored(), made.consumer.is_closed) == (1, True)


async def test_a_bug_ends_the_thread_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    made = Running(*clips(0, 0))

    def broken(*_: Any) -> Any:
        raise AssertionError("a bug")

    made.thread.fetcher._decode = broken
    async with running(made, 0):
        await made.thread.ended.wait()

    assert str(made.thread.failure) == "a bug"
    assert "Source clips stops." in caplog.text
    assert made.delivered == [None]


async def test_a_thread_that_was_never_started_is_closed_at_once() -> None:
    made = Running()

    made.thread.close()
    await made.thread.ended.wait()

    assert made.delivered == [None]


async def test_closing_while_no_broker_answers_ends() -> None:
    made = Running()
    made.committer.faults.extend([BrokerAway("away")] * 10**6)
    async with running(made):
        await made.polls(5)

    assert made.consumer.is_closed
