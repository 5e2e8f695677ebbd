"""The evidence that a load leaves on the broker: captions, dead letters, and its group's commits and generations.

All of it is read from topics, the commits from the broker's own log of them: no daemon is asked.
"""

import json
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connectors.kafka.client.consumer import KafkaConsumer, TopicPartition, open_reader
from connectors.kafka.offset_ledger import PartitionPosition, decode_position
from connectors.kafka.record import ERRORS_PREFIX
from connectors.kafka.settings import KafkaConnectionSettings
from tests.chaos.kafka.cluster import OFFSETS_PARTITIONS, Cluster
from tests.kafka.stand_in import place_of

_COMMIT_VERSIONS = (0, 1)  # of the keys in the broker's log of commits
_GROUP_VERSION = 2
_LONGEST_TRANSACTION_S = 20.0  # 15 s and the broker's look at them


@dataclass(frozen=True)
class Written:
    """A caption that a reader of committed records gets. ``at_ms`` is the broker's clock when it took the record."""

    clip_id: str
    index: int
    caption_id: str
    at_ms: int
    prompt: str | None = None


@dataclass(frozen=True)
class Letter:
    """A dead letter."""

    clip_id: str
    reason: str
    first_window: int
    detail: str = ""
    value: bytes | None = None


@dataclass(frozen=True)
class Commit:
    """A position that the group stored. ``at_ms`` is the broker's clock."""

    topic: str
    partition: int
    position: PartitionPosition
    at_ms: int


@dataclass(frozen=True)
class GroupHistory:
    """Every commit that counted, and every generation of the group, in the broker's order."""

    commits: Sequence[Commit]
    generations: Sequence[int]


def read_records(cluster: Cluster, topic: str) -> list[Any]:
    """Return the committed records of a topic, partition by partition, in the order of their offsets.

    An open transaction hides what comes after it, so the end is the last record that was ever written.
    """
    settings = KafkaConnectionSettings(bootstrap_servers=cluster.bootstrap)
    reader = open_reader(settings)
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(reader.partitions_for_topic(topic))]
        return _read(reader, partitions, _ends(settings, partitions))
    finally:
        reader.close()


def _ends(settings: KafkaConnectionSettings, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the ends of partitions, records of open transactions included."""
    looking = KafkaConsumer(bootstrap_servers=list(settings.bootstrap_servers), isolation_level="read_uncommitted")
    try:
        ends: dict[TopicPartition, int] = looking.end_offsets(list(partitions))
        return ends
    finally:
        looking.close()


def _read(reader: Any, partitions: Sequence[TopicPartition], ends: dict[TopicPartition, int]) -> list[Any]:
    reader.assign(list(partitions))
    found: dict[TopicPartition, list[Any]] = {partition: [] for partition in partitions}
    deadline_s = time.monotonic() + 2 * _LONGEST_TRANSACTION_S
    while behind := [partition for partition in partitions if reader.position(partition) < ends[partition]]:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{behind} can't be read to the end: a transaction stays open")
        for partition, records in reader.poll(timeout_ms=200).items():
            found[partition] += records
    return [record for partition in partitions for record in found[partition]]


def read_captions(cluster: Cluster, topic: str) -> list[Written]:
    """Return the captions of an output topic."""
    captions = []
    for record in read_records(cluster, topic):
        message = json.loads(record.value)
        captions.append(
            Written(
                place_of(message["clip_id"]),
                message["window"]["index"],
                message["caption_id"],
                record.timestamp,
                message.get("prompt"),
            )
        )
    return captions


def read_letters(cluster: Cluster, topic: str) -> list[Letter]:
    """Return the dead letters of a topic."""
    letters = []
    for record in read_records(cluster, topic):
        said = {
            name.removeprefix(ERRORS_PREFIX): value.decode()
            for name, value in record.headers
            if name.startswith(ERRORS_PREFIX)
        }
        reason, detail = said["exception.class.name"], said["exception.message"]
        letters.append(Letter(place_of(said["clip_id"]), reason, int(said["first_window"]), detail, record.value))
    return letters


def read_group(cluster: Cluster, group: str) -> GroupHistory:
    """Return what the broker's log says about a group; transactions that were aborted are not in it."""
    settings = KafkaConnectionSettings(bootstrap_servers=cluster.bootstrap)
    partition = TopicPartition("__consumer_offsets", _partition_of(group))
    reader = open_reader(settings)
    try:
        records = _read(reader, [partition], _ends(settings, [partition]))
    finally:
        reader.close()
    commits, generations = [], []
    for record in records:
        key = _Fields(record.key)
        version = key.number(">h")
        if key.text() != group or record.value is None:
            continue
        if version in _COMMIT_VERSIONS:
            commits.append(_commit(key.text(), key.number(">i"), _Fields(record.value)))
        elif version == _GROUP_VERSION:
            value = _Fields(record.value)
            value.number(">h")
            value.text()  # the kind of group
            generations.append(value.number(">i"))
    return GroupHistory(commits, generations)


def _commit(topic: str, partition: int, value: "_Fields") -> Commit:
    version = value.number(">h")
    if version not in (3, 4):
        raise ValueError(f"this broker writes commits in version {version}, which is not known here")
    offset, _ = value.number(">q"), value.number(">i")
    metadata = value.compact_text() if version == 4 else value.text()
    return Commit(topic, partition, decode_position(offset, metadata), value.number(">q"))


def _partition_of(group: str) -> int:
    """Return the partition of the broker's log that holds a group: Java's hash of its name."""
    number = 0
    for character in group:
        number = (31 * number + ord(character)) & 0xFFFFFFFF
    signed = number - 2**32 if number >= 2**31 else number
    return abs(signed) % OFFSETS_PARTITIONS


class _Fields:
    """Reads Kafka's encoding from its start."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self._raw, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def text(self) -> str:
        length = self.number(">h")
        self._at += max(length, 0)
        return self._raw[self._at - max(length, 0) : self._at].decode()

    def compact_text(self) -> str:
        length = shift = 0
        while True:
            byte = self.number(">B")
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        self._at += max(length - 1, 0)
        return self._raw[self._at - max(length - 1, 0) : self._at].decode()


def console_consumer_values(cluster: Cluster, topic: str) -> list[str]:
    """Return a topic's JSON values as Kafka's own console consumer reads them, committed records alone."""
    said = cluster.broker.tool(
        "consumer.ConsoleConsumer",
        *("--bootstrap-server", cluster.bootstrap, "--topic", topic, "--from-beginning"),
        *("--isolation-level", "read_committed", "--timeout-ms", "10000"),
    )
    return [line for line in said.split("\n") if line.startswith("{")]  # it logs to the same stream
