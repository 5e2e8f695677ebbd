"""A clip is never in flight twice, what is in flight is bounded, and what comes late changes nothing."""

import pytest

from connectors.contract import ClipPosition
from connectors.kafka.consumer.assigned_partitions import AssignedPartitions, Place
from connectors.kafka.offset_ledger import PartitionPosition
from tests.unit.connectors.kafka.scripted_client import partition, pending

PLACE: Place = partition(0)
OTHER: Place = partition(1)
HASH = "ab" * 8


@pytest.fixture
def partitions() -> AssignedPartitions:
    made = AssignedPartitions(max_clips=4, max_bytes=100)
    made.assign(PLACE, PartitionPosition(0, 0))
    return made


def test_clips_take_room_until_their_end_is_committed(partitions: AssignedPartitions) -> None:
    assert partitions.room == 4
    partitions.start(PLACE, 0, 40)
    partitions.start(PLACE, 1, 10)
    assert (partitions.clips_in_flight, partitions.held_bytes) == (2, 50)
    assert partitions.room == 1  # a third clip may be as large as the largest

    for commit in (pending(0, 0, ClipPosition(1, HASH)), pending(0, 0, None)):
        committed = partitions.positions_after([commit])
        partitions.apply([commit], committed)

    assert (partitions.clips_in_flight, partitions.held_bytes) == (1, 10)
    assert committed == {PLACE: PartitionPosition(1, 2, {1: ClipPosition()}, 2)}


def test_a_clip_that_does_not_fit_waits_until_there_is_room(partitions: AssignedPartitions) -> None:
    partitions.start(PLACE, 0, 60)

    assert partitions.must_wait(PLACE, 1, 50)
    assert partitions.blocked() == {PLACE}
    assert partitions.blocked() == {PLACE}

    end = pending(0, 0, None)
    partitions.apply([end], partitions.positions_after([end]))
    assert partitions.blocked() == frozenset()
    assert not partitions.must_wait(PLACE, 1, 50)


def test_a_clip_larger_than_all_that_may_be_held_is_taken_on_alone(partitions: AssignedPartitions) -> None:
    assert not partitions.must_wait(PLACE, 0, 1000)
    partitions.start(PLACE, 0, 1000)

    assert partitions.room == 0
    assert partitions.must_wait(PLACE, 1, 1)


def test_clips_wait_where_their_metadata_would_not_fit_into_a_commit() -> None:
    partitions = AssignedPartitions(max_clips=10_000, max_bytes=10**9)
    partitions.assign(PLACE, PartitionPosition(0, 0))
    offset = 0
    while not partitions.must_wait(PLACE, offset, 1):
        partitions.start(PLACE, offset, 1)
        offset += 1

    assert offset < 100
    assert partitions.blocked() == {PLACE}
    partitions.revoke([PLACE])
    assert partitions.blocked() == frozenset()


def test_a_clip_that_an_earlier_commit_knows_needs_no_room_in_the_metadata() -> None:
    partitions = AssignedPartitions(max_clips=10_000, max_bytes=10**9)
    known = {offset: ClipPosition() for offset in range(100)}
    partitions.assign(PLACE, PartitionPosition(0, 100, known))

    assert not any(partitions.must_wait(PLACE, offset, 1) for offset in known)
    assert partitions.must_wait(PLACE, 100, 1)


def test_a_finished_clip_is_not_started_and_an_unfinished_one_goes_on(partitions: AssignedPartitions) -> None:
    partitions.assign(OTHER, PartitionPosition(4, 8, {4: ClipPosition(3, HASH)}))

    assert partitions.start(OTHER, 4, 10) == ClipPosition(3, HASH)
    assert partitions.start(OTHER, 5, 10) is None
    assert partitions.clips_in_flight == 1


def test_what_comes_after_the_revoke_is_late_and_changes_nothing(partitions: AssignedPartitions) -> None:
    partitions.start(PLACE, 0, 10)
    partitions.revoke([PLACE])
    window, end = pending(0, 0, ClipPosition(1, HASH)), pending(0, 0, None)

    assert partitions.ledger(PLACE) is None
    assert partitions.split([window, end]) == ([], [window, end])
    partitions.drop([window])
    assert (partitions.late_settlements, partitions.clips_in_flight) == (1, 1)
    partitions.drop([end])
    assert (partitions.late_settlements, partitions.clips_in_flight, partitions.held_bytes) == (2, 0, 0)


def test_what_an_old_assignment_says_is_late_though_the_partition_is_back(partitions: AssignedPartitions) -> None:
    partitions.start(PLACE, 0, 10)
    partitions.revoke([PLACE])
    partitions.assign(PLACE, PartitionPosition(0, 0))
    old, new = pending(0, 0, None, assignment=1), pending(0, 1, None, assignment=2)

    assert partitions.split([old, new]) == ([new], [old])


def test_a_partition_that_comes_back_waits_for_the_old_delivery_of_its_clip(partitions: AssignedPartitions) -> None:
    partitions.start(PLACE, 0, 10)
    partitions.revoke([PLACE])
    partitions.assign(PLACE, PartitionPosition(0, 0))

    assert partitions.must_wait(PLACE, 0, 10)
    partitions.drop([pending(0, 0, ClipPosition(1, HASH))])
    assert partitions.blocked() == {PLACE}  # a window is not the end of it
    partitions.drop([pending(0, 0, None)])
    assert partitions.blocked() == frozenset()
    assert partitions.start(PLACE, 0, 10) == ClipPosition()


def test_a_late_end_lets_go_of_its_own_delivery_alone(partitions: AssignedPartitions) -> None:
    partitions.start(PLACE, 0, 10)
    partitions.revoke([PLACE])
    partitions.drop([pending(0, 0, None)])
    partitions.assign(PLACE, PartitionPosition(0, 0))
    partitions.start(PLACE, 0, 10)

    partitions.drop([pending(0, 0, None, assignment=1)])

    assert (partitions.clips_in_flight, partitions.held_bytes) == (1, 10)


def test_each_partition_has_a_position_of_its_own(partitions: AssignedPartitions) -> None:
    partitions.assign(OTHER, PartitionPosition(5, 5))
    partitions.start(PLACE, 0, 1)
    partitions.start(OTHER, 5, 1)

    both = [pending(0, 0, None), pending(1, 5, ClipPosition(2, HASH), assignment=2)]

    assert partitions.places == {PLACE, OTHER}
    assert partitions.positions_after(both) == {
        PLACE: PartitionPosition(1, 1, {}, 1),
        OTHER: PartitionPosition(5, 6, {5: ClipPosition(2, HASH)}, 1),
    }
