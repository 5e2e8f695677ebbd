"""The assignor: no partition has two owners, whatever members claim."""

from types import SimpleNamespace
from typing import Any

import pytest
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription

from connectors.kafka.client.consumer import TopicPartition
from connectors.kafka.client.workarounds import Assignor

CLUSTER = SimpleNamespace(topics=lambda: {"clips"}, partitions_for_topic=lambda topic: {0, 1, 2, 3})


def member(name: str, *claimed: int) -> Any:
    assignor = Assignor()
    assignor.owned = lambda: [TopicPartition("clips", partition) for partition in claimed]
    metadata = ConsumerProtocolSubscription.decode(assignor.metadata({"clips"}).encode())
    return SimpleNamespace(member_id=name, metadata=metadata)


def shares(assignor: CooperativeStickyAssignor, *members: Any) -> dict[str, list[int]]:
    shared = assignor.assign(CLUSTER, list(members))
    return {name: sorted(each.partition for each in share.partitions()) for name, share in shared.items()}


def test_what_two_members_claim_is_given_to_neither_before_it_is_free() -> None:
    owner, pretender = member("owner", 0, 1, 2, 3), member("pretender", 2, 3)

    first = shares(Assignor(), owner, pretender)
    second = shares(Assignor(), member("owner", *first["owner"]), member("pretender", *first["pretender"]))

    assert first == {"owner": [0, 1], "pretender": []}
    assert second == {"owner": [0, 1], "pretender": [2, 3]}


def test_the_client_gives_a_partition_to_the_one_while_the_other_has_it() -> None:
    by_itself = shares(CooperativeStickyAssignor(), member("owner", 0, 1, 2, 3), member("pretender", 2, 3))

    assert by_itself == {"owner": [0, 1], "pretender": [2, 3]}


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_what_one_member_claims_moves_as_cooperative_sticky_moves_it(order: tuple[str, str]) -> None:
    members = {"one": member("one", 0, 1, 2, 3), "two": member("two")}

    first = shares(Assignor(), *(members[name] for name in order))

    assert first["two"] == []
    assert len(first["one"]) == 2


def test_a_member_claims_what_it_has_and_not_what_it_was_given_once() -> None:
    assignor = Assignor()
    assignor.owned = lambda: [TopicPartition("clips", 1)]
    assignor.member_assignment = [TopicPartition("clips", 0), TopicPartition("clips", 1)]

    claimed = assignor.metadata({"clips"}).owned_partitions

    assert [(each.topic, each.partitions) for each in claimed] == [("clips", [1])]
