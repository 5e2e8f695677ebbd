"""The consumer thread commits in its order, gives partitions up after one commit, and polls always."""

import asyncio
from collections import deque
from typing import Any

import pytest
from kafka.errors import CommitFailedError

from connectors.contract import ClipPosition
from connectors.kafka.consumer import fetcher as fetcher_module
from connectors.kafka.consumer import thread as thread_module
from tests.unit.connectors.kafka.consumer.running_thread import FIRST, NEVER_S, OTHER, PLACE, Running, running, until
from tests.unit.connectors.kafka.scripted_client import ScriptedConsumer, clips

HASH = "ab" * 8


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
    async with running(Running(FIRST, *clips(0, *range(1, 10)), interval_s=NEVER_S), 0) as made:
        *taken, _ = await made.delivers(*(f"0/{offset}" for offset in range(1, 10)))
        await made.has_committed()
        ready = asyncio.gather(*(made.publish(delivery) for delivery in taken))
        await made.polls()
        assert (made.thread.queue.commits, ready.done()) == (1, False)
        made.thread._commit_at_s = 0.0  # the interval is over
        await ready

        assert made.thread.queue.commits == 2
    assert made.stored() == 9


async def test_what_every_clip_in_flight_waits_for_is_committed_at_once() -> None:
    async with running(Running(FIRST, *clips(0, 1, 2), interval_s=NEVER_S), 0) as made:
        first, second = await made.delivers("0/1", "0/2")
        await made.has_committed()
        waits = made.publish(first)
        await made.polls()
        assert not waits.done()

        await asyncio.gather(waits, made.publish(second))

        assert (made.stored(), made.thread.queue.commits) == (3, 2)


async def test_clips_that_nobody_took_yet_hold_up_no_commit() -> None:
    async with running(Running(FIRST, *clips(0, 1, 2), interval_s=NEVER_S), 0) as made:
        first, _ = await made.delivers("0/1", "0/2")
        await made.has_committed()
        made.untaken = 1  # the second waits for the first one's slot

        await made.publish(first)

        assert (made.stored(), made.thread.queue.commits) == (2, 2)


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
    async with running(Running(FIRST, *clips(0, 1, 2), interval_s=NEVER_S), 0) as made:
        first, _ = await made.delivers("0/1", "0/2")
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
    async with running(Running(FIRST, *clips(0, 1, 2), interval_s=NEVER_S), 0) as made:
        first, _ = await made.delivers("0/1", "0/2")
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


def test_a_partition_that_comes_is_paused_before_anything_of_it_is_read() -> None:
    consumer: Any = ScriptedConsumer(clips(0, 0))
    consumer.subscribe(listener=thread_module._Rebalances(consumer, deque()))

    consumer.change("assigned", {PLACE})

    assert consumer.paused() == {PLACE}


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
