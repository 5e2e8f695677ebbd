"""References written to a topic, each once, however often the writing was broken off.

The name that writing has come to is the position of a consumer group of its own, and is committed in the transaction
with the references before it: a call that is killed leaves nothing behind that the next one would write again. Its
transactional id is made of the same, so a second call at once shuts the first one out.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from connectors.enqueue.listing import Listed, Store
from connectors.errors import ConfigurationError, Poison
from connectors.folder.patterns import Pattern, parse_pattern
from connectors.kafka.client.admin import OutputTopic, check_topics, describe_outputs
from connectors.kafka.client.consumer import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition, open_reader
from connectors.kafka.client.errors import BrokerAway, translate
from connectors.kafka.client.producer import TopicProducer, open_topic_producer
from connectors.kafka.record import ProducerRecord
from connectors.kafka.settings import KafkaSinkSettings, KafkaSourceSettings

BATCH = 500  # references that share a transaction
_COMMIT_S = 30.0
_START_S, _PAUSE_S = 120.0, 1.0  # how long a broker that takes no transaction yet is asked again
_ANSWER_MS = 10_000
_MOST_NAME_BYTES = 3_000  # a position's metadata takes 4,096 bytes
_HEADERS = (("content-type", b"application/json"),)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which objects are enqueued, and to which topic. ``again`` begins anew, whatever was written before."""

    topic: str
    pattern: str = "**/*"
    since: datetime | None = None
    limit: int | None = None
    again: bool = False

    def group(self, place: str) -> str:
        """Return the consumer group that remembers how far writing has come."""
        since = "" if self.since is None else self.since.isoformat()
        said = json.dumps([place, self.topic, self.pattern, since]).encode()
        return f"captiond-enqueue-{hashlib.sha256(said).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What was done so far: references written by this call and before it, and objects left out."""

    written: int = 0
    before: int = 0
    passed_over: int = 0
    refused: int = 0
    why_refused: str = ""
    last: str = ""


@dataclass
class _Batch:
    records: list[ProducerRecord] = field(default_factory=list)
    last: str = ""


def enqueue(
    store: Store,
    wanted: Wanted,
    source: str,
    settings: KafkaSourceSettings,
    *,
    check: Callable[[str], None],
    dry_run: bool = False,
) -> Iterator[Enqueued]:
    """Write references to the objects that are wanted, from where the last call stopped, and yield how far it is.

    ``check`` raises :class:`Poison` for a reference that the source would not take: it is counted, and not written.
    """
    path = f"sources.{source}"
    output = KafkaSinkSettings.of_cluster(settings)
    check_topics(settings, [wanted.topic], "READ" if dry_run else "WRITE", path=path)
    group, producer = wanted.group(store.uri), None
    try:
        if not dry_run:
            topics = describe_outputs(settings, [wanted.topic], path=path)
            producer = _open_producer(output, topics, group)
        before, after = (0, "") if wanted.again else _position(output, group, wanted.topic, path)
        for batch, done in _batches(_left(store, wanted, after), wanted, Enqueued(before=before), check):
            if producer is not None and batch.records:
                _commit(producer, batch, wanted.topic, group, done.before + done.written)
            yield done
    except Exception as error:
        if producer is not None:
            producer.abandon()
        raise translate(error, path=path) from error
    if producer is not None:
        producer.producer.close(timeout=_COMMIT_S)


def _open_producer(settings: KafkaSinkSettings, topics: Mapping[str, OutputTopic], group: str) -> TopicProducer:
    """Return a producer before whose first transaction what an earlier call left open is ended.

    A cluster that has just been started has no transaction log yet, and makes one while the first producers wait.
    """
    deadline_s = time.monotonic() + _START_S
    while True:
        producer = open_topic_producer(settings, topics, transactional_id=group)
        try:
            producer.init_transactions()
        except Exception as error:
            producer.abandon()
            fault = translate(error)
            if not isinstance(fault, BrokerAway) or time.monotonic() > deadline_s:
                raise fault from error
            time.sleep(_PAUSE_S)
        else:
            return producer


def _position(settings: KafkaSinkSettings, group: str, topic: str, path: str) -> tuple[int, str]:
    """Return how many references were written, and the name that writing came to."""
    reader = open_reader(settings, path=path, group_id=group)
    try:
        stored = reader.committed(TopicPartition(topic, 0), metadata=True, timeout_ms=_ANSWER_MS)
    finally:
        reader.close(autocommit=False)
    return (0, "") if stored is None else (int(stored.offset), str(stored.metadata or ""))


def _left(store: Store, wanted: Wanted, after: str) -> Iterator[Listed]:
    for found in store.objects(after):
        if wanted.since is not None and found.modified is None:
            raise ConfigurationError(f"{store.uri} does not say when {found.name} was written", path="--since")
        yield found


def _batches(
    objects: Iterable[Listed], wanted: Wanted, done: Enqueued, check: Callable[[str], None]
) -> Iterator[tuple[_Batch, Enqueued]]:
    pattern, batch = parse_pattern(wanted.pattern), _Batch()
    for found in objects:
        if wanted.limit is not None and done.written >= wanted.limit:
            break
        done = replace(done, last=found.name)
        if not _is_wanted(found, wanted, pattern):
            done = replace(done, passed_over=done.passed_over + 1)
            continue
        if why := _why_refused(found, check):
            done = replace(done, refused=done.refused + 1, why_refused=done.why_refused or f"{found.name}: {why}")
            continue
        batch.records.append(_reference(found, wanted.topic))
        batch.last, done = found.name, replace(done, written=done.written + 1)
        if len(batch.records) >= BATCH:
            yield batch, done
            batch = _Batch()
    yield batch, done


def _is_wanted(found: Listed, wanted: Wanted, pattern: Pattern) -> bool:
    is_late_enough = wanted.since is None or (found.modified is not None and found.modified >= wanted.since)
    return is_late_enough and pattern.fits(found.name.split("/"))


def _why_refused(found: Listed, check: Callable[[str], None]) -> str:
    if len(found.name.encode(errors="surrogateescape")) > _MOST_NAME_BYTES:
        return f"its name has more than {_MOST_NAME_BYTES} bytes"
    try:
        found.uri.encode()
        check(found.uri)
    except Poison as fault:
        return fault.detail
    except UnicodeEncodeError:
        return "its name is no text"
    return ""


def _reference(found: Listed, topic: str) -> ProducerRecord:
    """Return the record: the clip's id is the same as long as the object is."""
    version = found.tag or ("" if found.modified is None else found.modified.isoformat())
    clip_id = hashlib.sha256(json.dumps([found.uri, found.size_bytes, version]).encode()).hexdigest()[:32]
    value = json.dumps({"uri": found.uri, "clip_id": clip_id}, ensure_ascii=False).encode()
    return ProducerRecord(topic, found.uri.encode(), value, _HEADERS)


def _commit(producer: TopicProducer, batch: _Batch, topic: str, group: str, written: int) -> None:
    """Write a batch and how far it comes: all of it or nothing."""
    deadline_s = time.monotonic() + _COMMIT_S
    producer.begin_transaction()
    sent = [producer.send(record) for record in batch.records]
    position = {TopicPartition(topic, 0): OffsetAndMetadata(written, batch.last, -1)}
    producer.add_offsets(position, ConsumerGroupMetadata(group_id=group), deadline_s)
    for acknowledgement in sent:
        acknowledgement.get(timeout=max(deadline_s - time.monotonic(), 0.001))
    producer.wait(producer.begin_commit(), deadline_s)


def source_of(topic: str, sources: Sequence[tuple[str, object]]) -> tuple[str, KafkaSourceSettings]:
    """Return the source that reads a topic."""
    for name, settings in sources:
        if isinstance(settings, KafkaSourceSettings) and settings.reads(topic):
            return name, settings
    raise ConfigurationError(f"no Kafka source of the configuration reads the topic {topic!r}", path="--topic")
