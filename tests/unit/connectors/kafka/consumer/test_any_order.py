"""Whatever the order of deliveries, answers, commits, faults and rebalances: no commit passes an unfinished clip.

The machine keeps beside the queue what is durable, from the commits that happened, and compares with it what is stored.
"""

import contextlib
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connectors.contract import ClipPosition
from connectors.kafka.client.errors import BrokerAway, KafkaFault
from connectors.kafka.consumer.assigned_partitions import AssignedPartitions
from connectors.kafka.consumer.commit_queue import CommitQueue
from connectors.kafka.offset_ledger import PartitionPosition, decode_position
from connectors.kafka.record import PendingCommit, SourceRecord
from tests.unit.connectors.kafka.scripted_client import (
    ImmediateLoop,
    Lost,
    ScriptedCommitter,
    ScriptedConsumer,
    answer_of,
    partition,
    pending,
)

HASH = "ab" * 8
LIMIT_S = 1.0
PLACES = (partition(0), partition(1))
CLIPS = 6  # in each partition
FINISHED = -1
places = st.sampled_from(PLACES)


class AnyOrder(RuleBasedStateMachine):
    """Members come and go, commits fail or get no answer, and clips end in any order, long after a revoke too."""

    def __init__(self) -> None:
        super().__init__()
        self.consumer: Any = ScriptedConsumer()
        self.committer = ScriptedCommitter(self.consumer)
        self.partitions = AssignedPartitions(max_clips=100, max_bytes=10**6)
        self.queue = CommitQueue(self.committer, self.partitions, cast(Any, ImmediateLoop()))
        self.next = dict.fromkeys(PLACES, 0)  # the offset that is read next
        self.working: list[tuple[SourceRecord, int]] = []  # deliveries that have not ended, and their next windows
        self.added: list[PendingCommit] = []
        self.seen = 0  # commits that are in ``durable``
        self.durable: dict[tuple[Any, int], int] = {}  # the next window of each clip, or FINISHED

    def stored(self, place: Any) -> PartitionPosition:
        found = self.consumer.stored.get(place)
        return PartitionPosition(0, 0) if found is None else decode_position(found.offset, found.metadata)

    @rule(place=places)
    def a_partition_comes(self, place: Any) -> None:
        if place not in self.partitions.places:
            self.consumer.change("assigned", {place})
            self.partitions.assign(place, self.stored(place))
            self.next[place] = self.stored(place).offset

    @rule(place=places, is_lost=st.booleans())
    def a_partition_goes(self, place: Any, is_lost: bool) -> None:
        if place not in self.partitions.places:
            return
        if is_lost:
            self.consumer.change("lost", {place})
            self.queue.lose([place])
        else:
            self.queue.revoke(self.consumer, [place], LIMIT_S)
            self.consumer.change("lost", {place})  # the group has moved on

    @rule(place=places)
    def a_record_is_read(self, place: Any) -> None:
        ledger, offset = self.partitions.ledger(place), self.next[place]
        if ledger is None or offset == CLIPS or self.partitions.must_wait(place, offset, 1):
            return
        self.next[place] += 1
        assert ledger.pass_over(offset) == []
        position = self.partitions.start(place, offset, 1)
        done = self.durable.get((place, offset), 0)
        assert (position is None) == (done == FINISHED)
        if position is not None:
            assert position.next_window == done
            origin = SourceRecord(place.topic, place.partition, offset, ledger.assignment)
            assert origin.place not in {other.place for other, _ in self.working if other.offset == offset}
            self.working.append((origin, done))

    @precondition(lambda self: self.working)
    @rule(data=st.data(), is_last=st.booleans())
    def a_window_or_a_clip_ends(self, data: st.DataObject, is_last: bool) -> None:
        which = data.draw(st.integers(0, len(self.working) - 1))
        origin, windows = self.working.pop(which)
        if not is_last:
            self.working.insert(which, (origin, windows + 1))
        outcome = None if is_last else ClipPosition(windows + 1, HASH)
        self.added.append(pending(origin.partition, origin.offset, outcome, assignment=origin.assignment))
        self.queue.add(self.added[-1])

    @rule(fault=st.sampled_from([None, BrokerAway("away"), Lost(happened=True), Lost(happened=False)]))
    def it_is_time_to_commit(self, fault: Exception | None) -> None:
        self.committer.script.append(fault)
        with contextlib.suppress(KafkaFault):
            self.queue.commit(self.consumer, LIMIT_S)
        self.committer.script.clear()

    @invariant()
    def what_is_stored_is_what_is_durable(self) -> None:
        for commit in self.committer.commits[self.seen :]:
            for one in commit:
                clip = (partition(one.origin.partition), one.origin.offset)
                self.durable[clip] = one.outcome.next_window if isinstance(one.outcome, ClipPosition) else FINISHED
        self.seen = len(self.committer.commits)
        for place in PLACES:
            stored = self.stored(place)
            for offset in range(CLIPS):
                done = self.durable.get((place, offset), 0)
                if offset in stored.unfinished:
                    assert stored.unfinished[offset].next_window == done
                else:
                    assert (offset < stored.next_unseen) == (done == FINISHED)

    @invariant()
    def an_answer_means_durable_or_late(self) -> None:
        happened = {one for commit in self.committer.commits for one in commit}
        for one in self.added:
            if answer_of(one) is not None and one not in happened:
                ledger = self.partitions.ledger(one.origin.place)
                assert ledger is None or ledger.assignment != one.origin.assignment

    def teardown(self) -> None:
        for _ in range(2):  # the first may only find out what became of a commit in doubt
            self.queue.commit(self.consumer, LIMIT_S)
        assert [one for one in self.added if answer_of(one) is None] == []
        assert self.partitions.clips_in_flight == len(self.working)


AnyOrder.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
