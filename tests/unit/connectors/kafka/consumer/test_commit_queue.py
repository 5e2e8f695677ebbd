"""Pending commits are committed together and answered together, and nothing is committed past a fence."""

import logging
from collections.abc import Sequence
from typing import Any, cast

import pytest

from connectors.contract import ClipPosition
from connectors.errors import Poison
from connectors.kafka.client.errors import BrokerAway, KafkaFault, NotAMember
from connectors.kafka.consumer.assigned_partitions import AssignedPartitions
from connectors.kafka.consumer.commit_queue import CommitQueue
from connectors.kafka.consumer.committer import TooLarge
from connectors.kafka.offset_ledger import Outcome, PartitionPosition, decode_position
from connectors.kafka.record import PendingCommit, ProducerRecord
from tests.unit.connectors.kafka.scripted_client import ScriptedConsumer, partition
from tests.unit.connectors.kafka.scripted_producer import Lost, ScriptedCommitter
from tests.unit.connectors.kafka.waiting import ImmediateLoop, answer_of, pending

HASH = "ab" * 8
LIMIT_S = 1.0


class Line:
    """A commit queue over two partitions of three clips each, all delivered."""

    def __init__(self, *script: Exception | None) -> None:
        self.consumer: Any = ScriptedConsumer()
        self.committer = ScriptedCommitter(self.consumer, *script)
        self.partitions = AssignedPartitions(max_clips=100, max_bytes=1000)
        self.queue = CommitQueue(self.committer, self.partitions, cast(Any, ImmediateLoop()))
        for number in (0, 1):
            self.consumer.change("assigned", {partition(number)})
            self.partitions.assign(partition(number), PartitionPosition(0, 0))
            for offset in range(3):
                self.partitions.start(partition(number), offset, 1)

    def add(
        self, number: int, offset: int, outcome: Outcome = None, *records: ProducerRecord, **more: Any
    ) -> PendingCommit:
        # each of the two partitions is in the first assignment of its own
        added = pending(number, offset, outcome, *records, **{"assignment": number + 1} | more)
        self.queue.add(added)
        return added

    def commit(self) -> None:
        self.queue.commit(self.consumer, LIMIT_S)

    def revoke(self, *numbers: int) -> None:
        places: Sequence[Any] = [partition(number) for number in numbers]
        self.queue.revoke(self.consumer, places, LIMIT_S)
        self.consumer.change("lost", set(places))  # the group has moved on

    def stored(self, number: int) -> PartitionPosition | None:
        found = self.consumer.stored.get(partition(number))
        return None if found is None else decode_position(found.offset, found.metadata)


def record(value: bytes, fallback: ProducerRecord | None = None) -> ProducerRecord:
    return ProducerRecord("out", b"key", value, (), fallback)


def test_all_that_is_in_line_is_one_commit() -> None:
    line = Line()
    added = [line.add(0, 0), line.add(1, 0, ClipPosition(2, HASH)), line.add(0, 1)]
    assert len(line.queue) == 3
    assert [answer_of(one) for one in added] == [None] * 3

    line.commit()

    assert line.committer.commits == [added]
    assert (line.stored(0), line.stored(1)) == (
        PartitionPosition(2, 3, {2: ClipPosition()}, 1),
        PartitionPosition(0, 3, {0: ClipPosition(2, HASH), 1: ClipPosition(), 2: ClipPosition()}, 1),
    )
    assert [answer_of(one) for one in added] == ["answered"] * 3
    assert (len(line.queue), line.queue.commits, line.partitions.clips_in_flight) == (0, 1, 4)


def test_nothing_in_line_commits_nothing() -> None:
    line = Line()

    line.commit()

    assert (line.committer.tries, line.queue.commits) == (0, 0)


@pytest.mark.parametrize("fault", [BrokerAway("away"), NotAMember("moved"), RuntimeError("a bug")], ids=repr)
def test_what_a_fault_stopped_stays_in_line_before_what_came_meanwhile(fault: Exception) -> None:
    line = Line(fault)
    first = line.add(0, 0)

    with pytest.raises(type(fault)):
        line.commit()
    second = line.add(0, 1)

    assert (len(line.queue), answer_of(first)) == (2, None)
    line.commit()
    assert line.committer.commits == [[first, second]]


def test_what_comes_after_the_revoke_is_counted_answered_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    line = Line()
    line.revoke(0)
    late, owned = line.add(0, 0), line.add(1, 0)

    line.commit()

    assert (answer_of(late), answer_of(owned)) == ("answered", "answered")
    assert line.committer.commits == [[owned]]
    assert line.stored(0) is None
    assert line.partitions.late_settlements == 1
    assert "1 settlements came after their partition was revoked and change nothing." in caplog.text


def test_a_revoke_commits_once_and_then_fences() -> None:
    line = Line()
    before = line.add(0, 0)

    line.revoke(0)

    assert line.committer.commits == [[before]]
    assert line.partitions.ledger(partition(0)) is None
    assert answer_of(before) == "answered"
    assert line.partitions.late_settlements == 0


def test_a_revoke_whose_commit_fails_is_not_tried_again_and_fences_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    line = Line(BrokerAway("nothing answers"))
    gone, stays = line.add(0, 0), line.add(1, 0)

    line.revoke(0)

    assert line.committer.tries == 1
    assert (answer_of(gone), answer_of(stays)) == ("answered", None)
    assert line.partitions.late_settlements == 1
    assert "given up before their last commit: nothing answers" in caplog.text
    line.commit()
    assert line.committer.commits == [[stays]]
    assert line.stored(0) is None


def test_a_partition_that_is_lost_is_fenced_without_a_commit() -> None:
    line = Line()
    gone = line.add(0, 0)

    line.queue.lose([partition(0)])

    assert line.committer.tries == 0
    assert (answer_of(gone), line.partitions.late_settlements) == ("answered", 1)


@pytest.mark.parametrize("happened", [True, False], ids=["it happened", "it did not happen"])
def test_a_commit_without_an_answer_is_looked_up_before_the_next(
    happened: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    line = Line(Lost(happened))
    doubtful = line.add(0, 0)
    line.commit()
    assert line.queue.is_in_doubt
    assert (len(line.queue), answer_of(doubtful), line.queue.commits) == (1, None, 0)
    following = line.add(0, 1)

    line.commit()

    assert line.committer.prepared == 1
    assert line.committer.commits == ([[doubtful], [following]] if happened else [[doubtful, following]])
    assert (answer_of(doubtful), answer_of(following)) == ("answered", "answered")
    assert line.queue.commits == (2 if happened else 1)
    assert not line.queue.is_in_doubt
    assert f"The commit without an answer did {'' if happened else 'not '}happen" in caplog.text


def test_what_is_in_doubt_stays_so_while_nobody_tells(caplog: pytest.LogCaptureFixture) -> None:
    line = Line(Lost(happened=True))
    doubtful = line.add(0, 0)
    line.commit()
    line.committer.faults.add("prepare", BrokerAway("away"))
    line.consumer.faults.add("committed", OSError("cut"))

    for _ in range(2):
        with pytest.raises(KafkaFault):
            line.commit()
        assert (line.queue.is_in_doubt, answer_of(doubtful)) == (True, None)
    line.commit()

    assert line.committer.commits == [[doubtful]]
    assert answer_of(doubtful) == "answered"


@pytest.mark.parametrize("happened", [True, False])
def test_a_partition_that_goes_while_its_commit_is_in_doubt_is_its_new_owners(happened: bool) -> None:
    line = Line(Lost(happened))
    gone, stays = line.add(0, 0), line.add(1, 0)
    line.commit()
    following = line.add(1, 1)
    line.revoke(0)
    assert line.committer.tries == 1  # nothing is committed before it is known what became of the one in doubt
    assert answer_of(gone) is None

    line.commit()

    assert [answer_of(one) for one in (gone, stays, following)] == ["answered"] * 3
    assert line.partitions.late_settlements == 1
    assert line.committer.commits == ([[gone, stays], [following]] if happened else [[stays, following]])
    assert line.partitions.ledger(partition(0)) is None


def test_a_position_that_another_member_stored_is_not_taken_for_ours() -> None:
    line = Line(Lost(happened=True))
    line.add(0, 0)
    line.commit()
    line.consumer.stored[partition(0)] = line.consumer.stored[partition(0)]._replace(metadata="AQID")

    line.commit()

    assert len(line.committer.commits) == 2


def test_a_dead_letter_that_is_too_large_goes_without_its_clip_and_a_caption_is_poison() -> None:
    line = Line()
    bare = record(b"")
    letter, long = line.add(0, 0, None, record(b"clip", bare)), line.add(0, 1, None, record(b"long"))
    fine = line.add(0, 2, None, record(b"fine"))
    line.committer.script.append(TooLarge([letter, long], "the broker refuses a record of this size"))

    line.commit()

    poison = answer_of(long)
    assert isinstance(poison, Poison)
    assert (poison.reason, poison.detail, poison.origin) == (
        "caption_too_large",
        "the topic refuses a message of this size",
        "sink",
    )
    assert (answer_of(letter), answer_of(fine), len(line.queue)) == (None, None, 2)
    line.commit()
    assert [[one.records for one in commit] for commit in line.committer.commits] == [[(bare,), fine.records]]
    assert (answer_of(letter), answer_of(fine)) == ("answered", "answered")
    assert line.stored(0) == PartitionPosition(1, 3, {1: ClipPosition()}, 2)


def test_a_dead_letter_that_is_too_large_without_its_clip_is_poison() -> None:
    line = Line()
    letter = line.add(0, 0, None, record(b"clip", record(b"")))
    line.committer.script.append(TooLarge([letter], "too large"))
    line.commit()
    (left,) = line.queue._line
    line.committer.script.append(TooLarge([left], "still too large"))

    line.commit()

    assert isinstance(answer_of(letter), Poison)
    assert len(line.queue) == 0


@pytest.mark.parametrize("failure", [None, RuntimeError("the thread ended")], ids=repr)
def test_a_queue_that_is_closed_answers_all_and_everything_after(failure: Exception | None) -> None:
    line = Line(Lost(happened=False))
    doubtful = line.add(0, 0)
    line.commit()
    waiting = line.add(0, 1)

    line.queue.close(failure)
    after = line.add(0, 2)

    assert [answer_of(one) for one in (doubtful, waiting, after)] == [failure or "answered"] * 3
    assert (len(line.queue), line.committer.commits) == (0, [])
