"""A position that means nothing in the log that is there is told with its numbers, counted, and begun anew."""

from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from connectors.contract import ClipPosition, Quarantine
from connectors.kafka.client.consumer import OffsetAndMetadata, OutOfRange, Unreadable
from connectors.kafka.client.errors import KafkaFault
from connectors.kafka.consumer import fetcher as fetcher_module
from connectors.kafka.consumer import standstills as standstills_module
from connectors.kafka.consumer.placement import MADE_AGAIN, OUT_OF_RANGE
from connectors.kafka.offset_ledger import PartitionPosition
from tests.unit.connectors.kafka.consumer.test_fetcher import OTHER, PLACE, Reading
from tests.unit.connectors.kafka.scripted_client import clips

OLD, NEW = "RSMs-CEFR3ybkr3cemGhgA", "AAAAAAAAAAAAAAAAAAAAAQ"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher_module, "TOPICS_S", 0.0)
    monkeypatch.setattr(fetcher_module, "LAG_S", 0.0)
    monkeypatch.setattr(standstills_module, "PAUSES_S", (0.0,))
    monkeypatch.setattr(standstills_module, "TELL_AFTER_S", 0.0)


def counts(reading: Reading) -> tuple[int, int]:
    counted = reading.fetcher.placement.counts
    return counted[MADE_AGAIN], counted[OUT_OF_RANGE]


def place_anew(reading: Reading) -> Any:
    """Do what the thread does with partitions whose assignment is over, and return them."""
    outdated = reading.fetcher.take_outdated()
    reading.partitions.revoke([tuple(each) for each in outdated])
    reading.fetcher.place(reading.consumer)
    return outdated


@pytest.mark.parametrize(
    ("stored", "first", "said"),
    [
        (PartitionPosition(100, 100), 0, "offset 100, is beyond the end of the log: it has 0 to 2. It goes on at"),
        (PartitionPosition(1, 1), 5, "offset 1, is before the start of the log: it has 5 to 2. It goes on at offset"),
        (
            PartitionPosition(1, 2, {}, 7, OLD),
            0,
            "offset 1, is of an earlier topic of this name, and this one was made",
        ),
    ],
    ids=["beyond", "before", "another topic"],
)
def test_a_position_that_means_nothing_is_begun_anew_and_committed(
    stored: PartitionPosition, first: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    reading = Reading(*clips(0, 0, 1))
    reading.consumer.first[PLACE] = first
    reading.consumer.topic_id = NEW
    reading.store(PLACE, stored)

    reading.begin()

    assert caplog.text.count(said) == 1
    assert sum(counts(reading)) == 1
    (moved,) = reading.fetcher.moved
    assert (moved.origin.offset, moved.outcome) == (first, Quarantine.NONE)
    begun = reading.partitions.positions_after([moved])[PLACE]
    assert (begun.offset, begun.next_unseen, begun.topic_id) == (first, first, NEW)
    assert begun.number > stored.number


@pytest.mark.parametrize("topic_id", ["", OLD])
@pytest.mark.parametrize("noted", ["", OLD])
def test_a_position_of_the_same_topic_or_of_one_without_id_counts(topic_id: str, noted: str) -> None:
    reading = Reading(*clips(0, 0, 1, 2))
    reading.consumer.topic_id = topic_id
    reading.store(PLACE, PartitionPosition(1, 2, {1: ClipPosition(2, "ab")}, 0, noted))

    ended = reading.begin().read()

    assert ended == (["0/1@" + OLD, "0/2@" + OLD] if topic_id else ["0/1", "0/2"])
    assert (counts(reading), reading.fetcher.moved) == ((0, 0), [])


def test_the_clip_that_is_read_first_is_not_finished_by_the_commit_of_the_beginning() -> None:
    reading = Reading(*clips(0, 0, 1))
    reading.consumer.stored[PLACE] = OffsetAndMetadata(100, "", -1)
    reading.begin()

    assert reading.read() == ["0/0", "0/1"]

    assert reading.partitions.positions_after(reading.fetcher.moved)[PLACE].offset == 0


def test_clips_above_the_end_that_are_called_finished_are_unseen(caplog: pytest.LogCaptureFixture) -> None:
    reading = Reading(*clips(0, 0, 1, 2))
    reading.store(PLACE, PartitionPosition(1, 60, {1: ClipPosition()}))

    assert reading.begin().read() == ["0/1", "0/2"]
    assert "clips/0 ends at offset 3 and was read up to 60: it goes on at its position, offset 1" in caplog.text
    assert counts(reading) == (0, 1)


def test_a_topic_that_is_made_again_is_begun_anew_and_its_records_are_others(caplog: pytest.LogCaptureFixture) -> None:
    reading = Reading(*clips(0, 0, 1))
    reading.consumer.topic_id = OLD
    assert reading.begin().read() == [f"0/0@{OLD}", f"0/1@{OLD}"]
    old = reading.partitions.ledger(PLACE)
    reading.consumer.topic_id = NEW
    reading.consumer.records += clips(0, 2)

    assert reading.read() == []
    assert place_anew(reading) == [PLACE]
    assert old is not None
    assert old.is_fenced
    reading.partitions._in_flight.clear()  # whoever works on the old ones lets go

    assert reading.read() == [f"0/0@{NEW}", f"0/1@{NEW}", f"0/2@{NEW}"]


def test_a_topic_that_the_metadata_calls_another_is_looked_at_before_its_records_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetcher_module, "TOPICS_S", 60.0)
    reading = Reading(*clips(0, 0))
    reading.consumer.topic_id = OLD
    assert reading.begin().read() == [f"0/0@{OLD}"]
    reading.consumer.topic_id = NEW
    reading.consumer.records += clips(0, 1)

    assert reading.read() == []
    assert reading.fetcher.take_outdated() == [PLACE]


def test_that_nobody_says_which_topic_it_is_changes_nothing() -> None:
    reading = Reading(*clips(0, 0, 1))
    reading.consumer.topic_id = OLD
    reading.begin()
    reading.consumer.faults.add("topic_ids", KafkaTimeoutError("late"))

    assert reading.read() == [f"0/0@{OLD}", f"0/1@{OLD}"]
    assert reading.fetcher.take_outdated() == []


def test_a_topic_that_is_not_there_is_waited_for_and_told(caplog: pytest.LogCaptureFixture) -> None:
    reading = Reading(*clips(0, 0))
    reading.consumer.missing = ["clips"]
    with pytest.raises(KafkaFault, match="the topic clips is not there"):
        reading.begin()
    reading.read()

    assert reading.fetcher.standstills.waiting_for == "topic clips (it is not there; was it deleted?)"
    reading.consumer.missing = []
    reading.fetcher.place(reading.consumer)
    assert reading.read() == ["0/0"]


def test_a_partition_that_nobody_leads_is_asked_for_nothing_and_told() -> None:
    reading = Reading(*clips(0, 0))
    reading.consumer.led = False
    reading.begin()

    assert reading.partitions.places == frozenset()
    assert reading.fetcher.standstills.waiting_for == "clips/0 (no broker leads it; was the topic deleted?)"
    reading.consumer.led = True
    reading.fetcher.place(reading.consumer)
    assert (reading.read(), reading.fetcher.standstills.waiting_for) == (["0/0"], "")


def test_retention_that_overtakes_reading_leaves_the_clips_in_flight_what_they_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reading = Reading(*clips(0, 0, 1), max_clips=9)
    assert reading.begin().read() == ["0/0", "0/1"]
    reading.consumer.records = clips(0, 7, 8)
    reading.consumer.first[PLACE] = 7
    reading.consumer.positions[PLACE] = 2
    reading.consumer.partition_faults = {PLACE: OutOfRange(2)}
    reading.consumer.pause(PLACE)
    reading.fetcher.poll(reading.consumer, 0)

    assert "offset 2, is before the start of the log: it begins at 7 now. It goes on as start_from" in caplog.text
    assert counts(reading) == (0, 1)
    assert reading.fetcher.take_outdated() == []
    assert reading.read() == ["0/7", "0/8"]
    reading.end(0, 0)
    reading.end(0, 1)
    assert reading.partitions.positions_after([]) == {}


@pytest.mark.parametrize(("intact_until", "begins"), [(None, ["0/0", "0/1"]), (1, ["0/1"])])
def test_a_log_that_lost_its_end_is_begun_anew_where_it_is_intact(intact_until: int | None, begins: list[str]) -> None:
    reading = Reading(*clips(0, 0, 1, 2, 3))
    reading.begin().read()
    reading.store(PLACE, PartitionPosition(4, 4))
    reading.consumer.records = clips(0, 0, 1)
    reading.consumer.partition_faults = {PLACE: OutOfRange(4, intact_until)}
    reading.consumer.faults.add("bounds", KafkaTimeoutError("late"))

    assert (reading.read(), reading.fetcher.take_outdated()) == ([], [])  # nobody answered; it is asked again
    reading.read()
    assert place_anew(reading) == [PLACE]
    reading.partitions._in_flight.clear()

    assert reading.read() == begins
    assert counts(reading) == (0, 1)


def test_a_partition_that_can_not_be_read_is_told_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    reading = Reading(*clips(0, 0), *clips(1, 0), numbers=(0, 1)).begin()
    reading.fetcher.pause_or_resume(reading.consumer)
    reading.consumer.partition_faults = {PLACE: Unreadable(0, "CorruptRecordError: crc")}
    reading.consumer.pause(PLACE)
    reading.fetcher.poll(reading.consumer, 0)

    assert "clips/0 stands still: offset 0 can't be read: CorruptRecordError: crc." in caplog.text
    assert reading.fetcher.standstills.waiting_for == "clips/0 (offset 0 can't be read: CorruptRecordError: crc)"
    assert reading.partitions.clips_in_flight == 1
    assert OTHER in reading.partitions.places
    assert reading.read() == ["0/0"]
    assert reading.fetcher.standstills.waiting_for == ""


def test_a_fault_of_a_partition_that_went_is_forgotten() -> None:
    reading = Reading(*clips(0, 0)).begin()
    reading.consumer.partition_faults = {PLACE: OutOfRange(0)}
    reading.consumer.faults.add("bounds", KafkaTimeoutError("late"))
    reading.read()
    reading.consumer.change("revoked", {PLACE})
    reading.fetcher.forget([PLACE])
    reading.partitions.revoke([PLACE])

    reading.read()

    assert (reading.fetcher._faults, reading.fetcher.take_outdated()) == ({}, [])
