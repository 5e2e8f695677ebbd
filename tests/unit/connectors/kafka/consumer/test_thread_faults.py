"""The consumer thread waits out what passes, tells of it once, and answers everyone when it ends."""

from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from connectors.errors import ConfigurationError
from connectors.kafka.client import outage
from connectors.kafka.client.consumer import OffsetAndMetadata
from connectors.kafka.client.errors import BrokerAway
from connectors.kafka.consumer import fetcher as fetcher_module
from connectors.kafka.consumer import thread as thread_module
from tests.unit.connectors.kafka.consumer.running_thread import FIRST, NEVER_S, OTHER, PLACE, Running, running, until
from tests.unit.connectors.kafka.scripted_client import ScriptedConsumer, clips


async def test_a_failure_that_passes_by_itself_is_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Running(*clips(0, 0, 1, 2)), 0) as made:
        for delivery in await made.delivers("0/0", "0/1", "0/2"):
            made.consumer.faults.add("commit", KafkaTimeoutError("late"))
            await made.publish(delivery)

    assert made.stored() == 3
    assert [message for message in caplog.messages if "waits" in message] == []


async def test_a_broker_that_is_away_at_the_start_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    made = Running(*clips(0, 0))
    assert made.thread.waiting_for == "the broker"
    made.connecting.extend([BrokerAway("refused")] * 3)
    made.committer.faults.append(BrokerAway("no coordinator"))
    async with running(made, 0):
        await made.delivers("0/0")
        assert made.thread.waiting_for == ""

    told = [message for message in caplog.messages if message.startswith("Source clips")]
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

    told = [message for message in caplog.messages if message.startswith("Source clips")]
    assert told == ["Source clips waits for the broker: nothing listens.", "Source clips: the broker is back."]


async def test_a_commit_that_is_not_answered_for_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_module, "AWAY_AFTER_S", 0.02)
    monkeypatch.setattr(outage, "BACK_OFF_S", (NEVER_S,))
    async with running(Running(*clips(0, 0), reason=""), 0) as made:
        (first,) = await made.delivers("0/0")
        made.consumer.faults.add("commit", KafkaTimeoutError("late"))
        ready = made.publish(first)
        await until(lambda: made.thread.waiting_for == "the broker: a commit is not answered")
        assert (made.stored(), ready.done()) == (None, False)
    await ready

    assert made.stored() == 1


async def test_commits_that_fail_again_and_again_are_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outage, "BACK_OFF_S", (0.01,))
    async with running(Running(*clips(0, 0), reason=""), 0) as made:
        (first,) = await made.delivers("0/0")
        made.consumer.faults.add("commit", *[KafkaTimeoutError("late")] * 10_000)
        ready = made.publish(first)
        await until(lambda: made.thread.waiting_for == "the broker: KafkaTimeoutError: late")
        for _ in range(20):
            await made.polls()
            assert made.thread.waiting_for == "the broker: KafkaTimeoutError: late"
        made.consumer.faults = ScriptedConsumer().faults
        await ready
        await until(lambda: made.thread.waiting_for == "")

    told = [message for message in caplog.messages if message.startswith("Source clips")]
    assert told == ["Source clips waits for the broker: KafkaTimeoutError: late.", "Source clips: the broker is back."]


async def test_a_round_of_polling_that_fails_is_tried_again() -> None:
    made = Running(*clips(0, 0))
    made.consumer.faults.add("poll_once", OSError("cut"), KafkaTimeoutError("late"))

    async with running(made, 0):
        await made.delivers("0/0")


async def test_the_end_commits_what_is_ready_and_leaves_the_group() -> None:
    async with running(Running(FIRST, *clips(0, 1, 2), interval_s=NEVER_S), 0) as made:
        first, _ = await made.delivers("0/1", "0/2")
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
    made = Running(FIRST, *clips(0, 1, 2), interval_s=NEVER_S)
    async with running(made, 0):
        first, _ = await made.delivers("0/1", "0/2")
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


async def test_a_partition_that_can_not_be_placed_holds_up_neither_polling_nor_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outage, "BACK_OFF_S", (0.01,))
    async with running(Running(*clips(0, 0), *clips(1, 0), reason=""), 0) as made:
        (first,) = await made.delivers("0/0")
        made.consumer.faults.add("committed", *[KafkaTimeoutError("late")] * 10_000)
        made.change("assigned", OTHER)
        await until(lambda: made.thread.waiting_for == "the broker: KafkaTimeoutError: late")
        for _ in range(20):
            await made.polls()
            assert made.thread.waiting_for == "the broker: KafkaTimeoutError: late"
        await made.publish(first)
        assert made.stored() == 1
        made.consumer.faults = ScriptedConsumer().faults
        await made.delivers("0/0", "1/0")
        await until(lambda: made.thread.waiting_for == "")

    told = [message for message in caplog.messages if message.startswith("Source clips")]
    assert told == ["Source clips waits for the broker: KafkaTimeoutError: late.", "Source clips: the broker is back."]


async def test_where_a_partition_begins_anew_is_committed_before_a_clip_of_it_ends() -> None:
    made = Running(*clips(0, 0))
    made.consumer.stored[PLACE] = OffsetAndMetadata(100, "", -1)
    async with running(made, 0):
        await made.delivers("0/0")
        await until(lambda: made.stored() == 0)


async def test_a_topic_that_is_made_again_fences_what_was_read_of_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher_module, "TOPICS_S", 0.0)
    made = Running(*clips(0, 0, 1))
    made.consumer.topic_id = "old"
    async with running(made, 0):
        first, second = await made.delivers("0/0@old", "0/1@old")
        made.consumer.stored.clear()  # as brokers do with a topic's positions
        made.consumer.topic_id = "new"
        await until(lambda: "start over" in made.consumer.happened)
        await made.publish(first)  # changes nothing, and lets the first of the new ones in
        await made.publish(second)
        await made.delivers("0/0@new", "0/0@old", "0/1@new", "0/1@old")

    assert made.partitions.late_settlements == 2
    assert made.stored() is None
