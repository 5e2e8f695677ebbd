"""A partition begins where its position says, is paused while nothing may be read, and loses no record that waits."""

import logging
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from connectors.contract import ClipPosition, Delivery
from connectors.errors import ConfigurationError
from connectors.kafka.client.consumer import OffsetAndMetadata
from connectors.kafka.client.errors import BrokerAway, KafkaFault
from connectors.kafka.consumer import fetcher as fetcher_module
from connectors.kafka.consumer.assigned_partitions import AssignedPartitions
from connectors.kafka.consumer.fetcher import Fetcher
from connectors.kafka.offset_ledger import PartitionPosition, encode_position
from tests.unit.connectors.kafka.scripted_client import Record, ScriptedConsumer, clips, decode, partition
from tests.unit.connectors.kafka.waiting import pending

PLACE, OTHER = partition(0), partition(1)
HASH = "ab" * 8


class Reading:
    """A fetcher over a scripted consumer that has been given its partitions."""

    def __init__(self, *records: Record, numbers: tuple[int, ...] = (0,), once: bool = False, **bounds: int) -> None:
        self.consumer: Any = ScriptedConsumer(records)
        self.partitions = AssignedPartitions(**{"max_clips": 10, "max_bytes": 1000} | bounds)
        self.fetcher = Fetcher(self.partitions, decode, once=once, path="sources.t")
        self.numbers = {partition(number) for number in numbers}

    def begin(self) -> "Reading":
        self.give(*self.numbers)
        self.fetcher.place(self.consumer)
        return self

    def give(self, *partitions: Any) -> None:
        self.consumer.change("assigned", set(partitions))
        self.consumer.pause(*partitions)
        self.fetcher.assign(partitions)

    def read(self) -> list[str]:
        """Do what a turn of the thread does, and return the names of the clips."""
        self.fetcher.pause_or_resume(self.consumer)
        return [
            taken.clip.clip_id if isinstance(taken, Delivery) else f"skip {taken.origin.offset}"
            for taken in self.fetcher.poll(self.consumer, 0)
        ]

    def end(self, number: int, offset: int) -> None:
        """Commit the end of a clip."""
        ended = [pending(number, offset, None)]
        self.partitions.apply(ended, self.partitions.positions_after(ended))

    def store(self, place: Any, position: PartitionPosition) -> None:
        self.consumer.stored[place] = OffsetAndMetadata(position.offset, encode_position(position), -1)


def test_a_partition_without_a_position_begins_where_the_client_does() -> None:
    reading = Reading(*clips(0, 3, 4))
    reading.consumer.first[PLACE] = 3

    assert reading.begin().read() == ["0/3", "0/4"]


def test_a_partition_begins_at_its_lowest_unfinished_clip_and_repeats_no_finished_one() -> None:
    reading = Reading(*clips(0, 4, 5, 6, 7))
    reading.store(PLACE, PartitionPosition(4, 7, {4: ClipPosition(2, HASH), 6: ClipPosition()}))
    reading.begin()
    reading.fetcher.pause_or_resume(reading.consumer)

    taken = reading.fetcher.poll(reading.consumer, 0)

    assert [(each.clip.clip_id, each.position) for each in taken if isinstance(each, Delivery)] == [
        ("0/4", ClipPosition(2, HASH)),
        ("0/6", ClipPosition()),
        ("0/7", ClipPosition()),
    ]


def test_a_position_of_another_program_says_nothing_but_its_offset(caplog: pytest.LogCaptureFixture) -> None:
    reading = Reading(*clips(0, 4, 5))
    reading.consumer.stored[PLACE] = OffsetAndMetadata(5, "of another program", -1)

    assert reading.begin().read() == ["0/5"]
    assert "What is finished above offset 5 of clips/0 is unknown" in caplog.text


def test_what_retention_deleted_is_counted_and_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    reading = Reading(*clips(0, 8, 9))
    reading.consumer.first[PLACE] = 8
    reading.store(PLACE, PartitionPosition(4, 9, {4: ClipPosition(), 6: ClipPosition(), 8: ClipPosition()}))

    assert reading.begin().consumer.positions[PLACE] == 8
    assert reading.read() == ["0/8", "0/9"]

    assert reading.fetcher.lost_to_retention == 2
    assert "Retention deleted clips/0 up to offset 8 unread." in caplog.text
    assert "2 unfinished clips of clips/0 are gone from the topic." in caplog.text
    assert reading.partitions.positions_after([pending(0, 8, None)])[PLACE].offset == 9


def test_gaps_between_offsets_are_passed_over() -> None:
    reading = Reading(*clips(0, 0, 3, 7))

    assert reading.begin().read() == ["0/0", "0/3", "0/7"]
    assert reading.partitions.positions_after([pending(0, 0, None)])[PLACE].offset == 3


def test_a_partition_stays_paused_until_its_position_is_known() -> None:
    reading = Reading(*clips(0, 0))
    reading.give(PLACE)
    reading.consumer.positions[PLACE] = None  # the coordinator does not answer in time
    reading.fetcher.place(reading.consumer)

    assert (reading.read(), reading.partitions.places) == ([], frozenset())
    assert PLACE in reading.consumer.paused()

    reading.consumer.positions[PLACE] = 0
    reading.fetcher.place(reading.consumer)
    assert reading.read() == ["0/0"]


def test_a_position_that_can_not_be_read_is_asked_for_again() -> None:
    reading = Reading(*clips(0, 0))
    reading.consumer.faults.add("committed", KafkaTimeoutError("no answer"))
    reading.give(PLACE)

    with pytest.raises(KafkaFault, match="no answer"):
        reading.fetcher.place(reading.consumer)
    reading.fetcher.place(reading.consumer)

    assert reading.read() == ["0/0"]


def test_a_partition_that_goes_as_fast_as_it_came_is_no_failure() -> None:
    reading = Reading(*clips(0, 0), *clips(1, 0))
    reading.give(PLACE, OTHER)

    def goes(*_: Any, **__: Any) -> None:
        reading.consumer.change("revoked", {PLACE})
        reading.consumer.committed = ScriptedConsumer.committed.__get__(reading.consumer)
        raise KafkaTimeoutError("not a member")

    reading.consumer.committed = goes
    reading.fetcher.place(reading.consumer)

    assert reading.partitions.places == {OTHER}


def test_a_partition_that_went_is_not_placed() -> None:
    reading = Reading(*clips(0, 0))
    reading.give(PLACE)
    reading.fetcher.forget([PLACE])

    reading.fetcher.place(reading.consumer)

    assert reading.partitions.places == frozenset()


def test_rights_that_are_missing_name_the_source() -> None:
    reading = Reading(*clips(0, 0)).begin()
    reading.consumer.faults.add("poll_once", TopicAuthorizationFailedError({"clips"}))

    with pytest.raises(ConfigurationError, match="no rights on the topic clips") as refused:
        reading.read()

    assert refused.value.path == "sources.t"


def test_nothing_is_read_while_every_slot_is_taken() -> None:
    reading = Reading(*clips(0, 0, 1, 2), *clips(1, 0), numbers=(0, 1), max_clips=2).begin()

    assert reading.read() == ["0/0", "0/1"]
    assert reading.read() == []
    assert reading.consumer.paused() == {PLACE, OTHER}
    reading.end(0, 0)

    assert len(reading.read()) == 1


def test_a_clip_that_does_not_fit_is_read_again_and_pauses_its_partition_alone() -> None:
    large = Record("clips", 0, 1, b"x" * 61)
    small = [Record("clips", 1, offset, b"x") for offset in (0, 1)]
    reading = Reading(Record("clips", 0, 0, b"x" * 40), large, *small, numbers=(0, 1), max_bytes=100).begin()

    assert reading.read() == ["0/0", "1/0", "1/1"]
    assert reading.consumer.positions[PLACE] == 1
    reading.read()
    assert reading.consumer.paused() == {PLACE}

    reading.end(0, 0)
    assert reading.read() == ["0/1"]


def test_a_partition_that_comes_back_waits_for_an_old_delivery_that_is_still_in_flight() -> None:
    reading = Reading(*clips(0, 0, 1)).begin()
    assert reading.read() == ["0/0", "0/1"]
    reading.consumer.change("revoked", {PLACE})
    reading.fetcher.forget([PLACE])
    reading.partitions.revoke([PLACE])
    reading.begin()

    assert (reading.read(), reading.read()) == ([], [])
    assert reading.consumer.paused() == {PLACE}
    reading.partitions.drop([pending(0, 0, None), pending(0, 1, None)])

    assert reading.read() == ["0/0", "0/1"]


def test_a_record_of_a_partition_that_is_not_placed_is_read_again() -> None:
    reading = Reading(*clips(0, 0))
    reading.give(PLACE)
    reading.consumer.resume(PLACE)  # whoever paused it, the client may hold records of it

    assert reading.fetcher.poll(reading.consumer, 0) == []
    assert reading.consumer.positions[PLACE] == 0


def test_a_drain_reads_nothing_more() -> None:
    reading = Reading(*clips(0, 0)).begin()
    reading.fetcher.draining = True

    assert reading.read() == []
    assert reading.consumer.paused() == {PLACE}


def test_once_reads_to_the_ends_that_there_were_and_not_further() -> None:
    reading = Reading(*clips(0, 0, 1), numbers=(0, 1), once=True).begin()
    assert not reading.fetcher.is_at_the_ends(reading.consumer)
    reading.consumer.records += clips(0, 2) + clips(1, 0)

    assert reading.read() == ["0/0", "0/1"]
    assert reading.read() == []

    assert reading.consumer.paused() == {PLACE, OTHER}
    assert reading.fetcher.is_at_the_ends(reading.consumer)


def test_once_keeps_the_ends_of_a_partition_that_comes_back() -> None:
    reading = Reading(*clips(0, 0), once=True).begin()
    reading.consumer.change("revoked", {PLACE})
    reading.fetcher.forget([PLACE])
    reading.partitions.revoke([PLACE])
    reading.consumer.records += clips(0, 1)

    assert reading.begin().read() == ["0/0"]


def test_once_is_not_at_the_ends_before_every_partition_has_begun() -> None:
    reading = Reading(once=True)
    reading.give(PLACE)

    assert not reading.fetcher.is_at_the_ends(reading.consumer)
    reading.fetcher.place(reading.consumer)
    assert reading.fetcher.is_at_the_ends(reading.consumer)


def test_once_without_partitions_waits_a_while_for_some(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(fetcher_module.time, "monotonic", lambda: now_s[0])
    reading = Reading(once=True)

    assert not reading.fetcher.is_at_the_ends(reading.consumer)
    now_s[0] += fetcher_module.NO_PARTITIONS_S
    assert not reading.fetcher.is_at_the_ends(reading.consumer)
    now_s[0] += 0.1
    assert reading.fetcher.is_at_the_ends(reading.consumer)


def test_null_values_are_skipped() -> None:
    reading = Reading(*clips(0, 0, value=None), *clips(0, 1)).begin()

    assert reading.read() == ["skip 0", "0/1"]


def test_the_lag_is_what_was_not_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher_module, "LAG_S", 0.0)
    reading = Reading(*clips(0, *range(7)), numbers=(0, 1), max_clips=3).begin()

    reading.read()
    reading.read()

    assert reading.fetcher.lag == {PLACE: 4, OTHER: 0}  # as each poll begins


def test_a_broker_that_is_away_is_said_in_the_same_words_whatever_the_client_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    reading = Reading(*clips(0, 0)).begin()
    reading.consumer.faults.add("poll_once", OSError("cut"), KafkaTimeoutError("late"))

    for _ in range(2):
        with pytest.raises(BrokerAway):
            reading.read()

    assert reading.read() == ["0/0"]
    assert "clips/0 begins at offset 0." in caplog.text
