"""The replay of dead letters.

A dead letter goes back to the topic that it came from, or to ``to``, with its original key, value and headers; its
clip's id, the window to go on at and a count of its replays travel in headers of their own, which are signed. The
replay commits to a consumer group of its own, so a second call sends only what came since the first.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from connectors.kafka.client.admin import check_topics
from connectors.kafka.client.consumer import Consumer, ConsumerRecord, OffsetAndMetadata, TopicPartition, open_reader
from connectors.kafka.client.errors import BrokerAway, translate
from connectors.kafka.client.producer import KafkaProducer, open_producer
from connectors.kafka.client.workarounds import headers_with_nulls
from connectors.kafka.probe import probe_connection
from connectors.kafka.record import ERRORS_PREFIX, REPLAY_PREFIX, Headers, given
from connectors.kafka.replay_key import SIGNATURE, ReplayKey
from connectors.kafka.settings import KafkaSinkSettings

log = logging.getLogger(__name__)

BATCH = 100  # letters that are acknowledged and committed together; a crash repeats at most these
ANSWER_MS = 10_000  # from the group's coordinator
SEND_S = 15.0  # a batch that is not acknowledged by then is not committed, and is replayed by the next call
POLL_MS = 500
_MAX_COUNT_DIGITS = 9


@dataclass
class Replayed:
    """What a replay did: letters sent again, and letters that can't be, with the first reason."""

    sent: int = 0
    left: int = 0
    why_left: str = ""


def replay_all(
    settings: KafkaSinkSettings, sources: Iterable[str], key: ReplayKey, *, to: str | None, limit: int | None
) -> str:
    """Send the dead letters of all ``sources`` through again, and return what was done as a sentence."""
    topics = {settings.dead_letter_topic_for(name): name for name in sources}
    done = [replay(settings, name, key, to=to, limit=limit) for name in topics.values()]
    left = next((f" Not sent: {one.left}, because {one.why_left}." for one in done if one.left), "")
    return f"Sent {sum(one.sent for one in done)} dead letters through again.{left}"


def replay(
    settings: KafkaSinkSettings, source: str, key: ReplayKey, *, to: str | None = None, limit: int | None = None
) -> Replayed:
    """Send the dead letters of ``source`` that are there now through again, at most ``limit``; returns what it did.

    1. A batch is read, up to the end that the dead-letter topic had at the start.
    2. Each letter that has its value is sent to its topic; all are acknowledged.
    3. The replay's own position is committed. A crash before that replays the batch again: clips keep their ids.
    """
    topic = settings.dead_letter_topic_for(source)
    try:
        count = check_topics(settings, [topic], "READ", path="sink.dead_letter_topic")[topic]
        reader = open_reader(settings, path="sink", group_id=f"captiond-replay-{topic}", max_poll_records=BATCH)
    except BrokerAway as away:
        raise BrokerAway(probe_connection(settings, path="sink") or str(away)) from away
    producer = None
    try:
        producer = open_producer(settings, client_id="captiond-replay", path="sink")
        partitions = [TopicPartition(topic, number) for number in range(count)]
        return _replay_all(reader, producer, partitions, key, to=to, limit=limit)
    except Exception as error:
        raise translate(error, path="sink") from error
    finally:
        reader.close(autocommit=False)
        if producer is not None:
            producer.close(timeout=SEND_S)


def _replay_all(
    reader: Consumer,
    producer: KafkaProducer,
    partitions: list[TopicPartition],
    key: ReplayKey,
    *,
    to: str | None,
    limit: int | None,
) -> Replayed:
    reader.assign(partitions)
    ids = reader.topic_ids({at.topic for at in partitions}, timeout_ms=ANSWER_MS)
    for at in partitions:
        _begin(reader, at, ids.get(at.topic, ""))
    ends = reader.end_offsets(partitions, timeout_ms=ANSWER_MS)
    done = Replayed()
    while any((reader.position(at, timeout_ms=ANSWER_MS) or 0) < ends[at] for at in partitions):
        room = BATCH if limit is None else min(BATCH, limit - done.sent)
        if room <= 0:
            break
        polled = reader.poll(timeout_ms=POLL_MS, max_records=room)  # 1
        futures = []
        for record in (record for records in polled.values() for record in records):
            target = _target(record, to)
            if target is None:
                done.left += 1
                done.why_left = done.why_left or _why_left(record)
            else:
                headers = headers_with_nulls(replay_headers(record, key))
                futures.append(producer.send(target, record.value, record.key, headers))
        producer.flush(timeout=SEND_S)  # 2
        for future in futures:
            future.get(timeout=0)
        done.sent += len(futures)
        positions = {
            at: OffsetAndMetadata(records[-1].offset + 1, ids.get(at.topic, ""), -1) for at, records in polled.items()
        }
        if positions:
            reader.commit(positions, timeout_ms=ANSWER_MS)  # 3
    return done


def _begin(reader: Consumer, at: TopicPartition, topic_id: str) -> None:
    """Have a partition read from its start where the last replay's position means nothing in the topic that is there.

    What is stored with the position is the id of the topic that it is of.
    """
    committed = reader.committed(at, metadata=True, timeout_ms=ANSWER_MS)
    if committed is None:
        return
    _, end = reader.bounds(at, timeout_ms=ANSWER_MS)
    is_of_another = bool(committed.metadata and topic_id) and committed.metadata != topic_id
    if is_of_another or committed.offset > end:
        log.warning(
            "The last replay came to offset %d of %s/%d, and the topic %s: its letters are replayed from the start.",
            committed.offset,
            *at,
            "was made again" if is_of_another else f"ends at {end}",
        )
        reader.seek_to_beginning(at)


def _target(record: ConsumerRecord, to: str | None) -> str | None:
    """Return the topic that a letter goes to; None where its clip is gone, or never came in a record."""
    if record.value is None:
        return None
    original = errors_of(record.headers).get("topic")
    return None if original is None else (to or original)


def _why_left(record: ConsumerRecord) -> str:
    if record.value is None:
        return "its clip was too large for the dead-letter topic; the original is where its headers say"
    return "it is no record of a Kafka source: put its file into the folder again"


def errors_of(headers: Headers) -> Mapping[str, str]:
    """Return what a dead letter says of its rejection."""
    return {
        name.removeprefix(ERRORS_PREFIX): value.decode(errors="replace")
        for name, value in given(headers).items()
        if name.startswith(ERRORS_PREFIX)
    }


def replay_headers(letter: ConsumerRecord, key: ReplayKey) -> list[tuple[str, bytes | None]]:
    """Return the original headers, where the replayed clip goes on, and how often it was replayed, signed."""
    errors = errors_of(letter.headers)
    said = {"clip_id": errors.get("clip_id", ""), "first_window": errors.get("first_window", "0")}
    said |= {"plan_hash": errors.get("plan_hash", "")}
    said |= {name: errors.get(name, "") for name in ("topic", "partition", "offset")}
    return headers_again(letter, said, key)


def headers_again(record: ConsumerRecord, said: Mapping[str, str], key: ReplayKey) -> list[tuple[str, bytes | None]]:
    """Return the headers of a record that is sent once more: its own, and signed what is ``said`` and how often."""
    counted = given(record.headers).get(REPLAY_PREFIX + "count", b"0")
    count = int(counted) + 1 if counted.isdigit() and len(counted) <= _MAX_COUNT_DIGITS else 1
    ours = {**said, "count": str(count)}
    ours[SIGNATURE] = key.sign(ours, record.key, record.value)
    kept: list[tuple[str, bytes | None]] = [
        (name, value) for name, value in record.headers if not name.startswith((ERRORS_PREFIX, REPLAY_PREFIX))
    ]
    return kept + [(REPLAY_PREFIX + name, value.encode()) for name, value in ours.items() if value]
