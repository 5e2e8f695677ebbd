"""The faults of single partitions, kept apart from those of the client.

kafka-python 3.0.12 raises whatever is wrong with one partition from the round of polling: no other partition is read in
that round, and after a batch that it can't take apart it goes round for ever. An offset that is no longer there is
moved without a word. Here a fault ends the reading of its partition in this round, and the caller decides what follows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer
from kafka import errors as kafka_errors
from kafka.structs import TopicPartition

from connectors.errors import ConfigurationError

_OF_THE_CLIENT = (
    ConfigurationError,
    MemoryError,
    OSError,
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.RetriableError,
)


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """The broker has no record at ``offset`` and none can come there: the log begins behind it or ends before it.

    ``intact_until`` is where the log that was read and the one that is there part, when a new leader says so.
    """

    offset: int
    intact_until: int | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What came for ``offset`` can't be taken apart, or the broker refuses it for a reason of the partition's own."""

    offset: int
    reason: str


PartitionFault = OutOfRange | Unreadable


class PartitionFaults:
    """What one consumer met since it was last asked. To be made after everything else that changes its fetcher."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._met: dict[TopicPartition, PartitionFault] = {}
        self._positions = consumer._subscription.assignment
        fetcher = consumer._fetcher
        self._append: Callable[..., int] = fetcher._append
        self._parse: Callable[..., Any] = fetcher._parse_fetched_data
        self._compare: Callable[..., Any] = fetcher._handle_offset_for_leader_epoch_response
        fetcher._append, fetcher._parse_fetched_data = self._append_or_note, self._parse_or_note
        fetcher._handle_offset_for_leader_epoch_response = self._note_truncations
        # The client then says of an offset that is not there that it is not, instead of moving it by itself.
        consumer._subscription.has_default_offset_reset_policy = lambda: False

    def take(self) -> dict[TopicPartition, PartitionFault]:
        """Return what was met since the last call."""
        met: dict[TopicPartition, PartitionFault] = {}
        while self._met:  # the client's own thread adds to it
            place, fault = self._met.popitem()
            met[place] = fault
        return met

    def _append_or_note(self, drained: Any, part: Any, *args: Any) -> int:
        try:
            return self._append(drained, part, *args)
        except Exception as error:
            part.drain()
            self._note(part.topic_partition, part.next_fetch_offset, error)
            return 0

    def _parse_or_note(self, completed: Any) -> Any:
        try:
            return self._parse(completed)
        except Exception as error:
            self._note(completed.topic_partition, completed.fetched_offset, error)
            return None

    def _note(self, place: TopicPartition, offset: int, error: Exception) -> None:
        if isinstance(error, kafka_errors.OffsetOutOfRangeError):
            self._met[place] = OutOfRange(offset)
        elif isinstance(error, _OF_THE_CLIENT):
            raise error
        else:
            said = str(error)
            name = type(error).__name__
            self._met[place] = Unreadable(offset, said if said.startswith(name) else f"{name}: {said}")

    def _note_truncations(self, response: Any, requested: Any) -> dict[TopicPartition, Any]:
        """Note what a new leader has lost; the client would raise it from whatever is called next."""
        for place, position in self._compare(response, requested).items():
            held = self._positions.get(place)
            offset = held.position.offset if held is not None and held.position is not None else 0
            self._met[place] = OutOfRange(offset, None if position is None else position.offset)
        return {}
