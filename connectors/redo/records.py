"""Clips of Kafka sources that go through again: the record that a clip came in is sent to its topic once more.

It has its own key, value and headers; that it is the same clip, and begins at its first window, is signed as a replay
is. Where the log has given the record up, a dead letter that holds it does as well.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Self

from connectors.contract import ClipPosition, Delivery
from connectors.errors import Poison, Reason
from connectors.kafka.client.admin import check_topics
from connectors.kafka.client.consumer import Consumer, ConsumerRecord, TopicPartition, open_reader
from connectors.kafka.client.errors import translate
from connectors.kafka.client.producer import KafkaProducer, open_producer
from connectors.kafka.client.workarounds import headers_with_nulls
from connectors.kafka.decoder import RecordDecoder
from connectors.kafka.replay import ANSWER_MS, POLL_MS, SEND_S, errors_of, headers_again
from connectors.kafka.replay_key import ReplayKey
from connectors.kafka.settings import KafkaConnectionSettings, KafkaSinkSettings, KafkaSourceSettings
from connectors.redo.chosen import Chosen, Outcome, Place

_READ_S = 30.0  # for one record, as large as it may be


class RecordsAgain:
    """The topics of one source, and how its clips' records are read and sent; a context that closes its clients.

    ``letters`` is where dead letters lie, None where the sink has none. ``before`` is called for a clip whose record is
    there, before it is sent. In a ``dry_run`` nothing is sent.
    """

    def __init__(
        self,
        source: str,
        settings: KafkaSourceSettings,
        key: ReplayKey,
        *,
        letters: KafkaSinkSettings | None,
        before: Callable[[Chosen], None],
        dry_run: bool,
    ) -> None:
        self._source, self._settings, self._key, self._letters = source, settings, key, letters
        self._before, self._dry_run = before, dry_run
        self._readers: dict[str, Consumer] = {}
        self._producer: KafkaProducer | None = None
        self._decoder = RecordDecoder(
            source, {}, sys.maxsize, _no_reference, senders_may=settings.senders_may, replay_key=key
        )
        self._may_write: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reader in self._readers.values():
            reader.close(autocommit=False)
        if self._producer is not None:
            self._producer.close(timeout=SEND_S)

    def send(self, clip: Chosen) -> Outcome:
        """Send a clip's record again; it is acknowledged when this returns."""
        path = f"sources.{self._source}"
        try:
            found, origin = self._find(clip)
            if isinstance(found, str):
                return Outcome(clip, found)
            if not self._dry_run:
                self._before(clip)
                self._send(found, origin, clip)
        except Exception as error:
            raise translate(error, path=path) from error
        return Outcome(clip)

    def _find(self, clip: Chosen) -> tuple[ConsumerRecord | str, Place]:
        """Return the record of a clip, or why there is none, and the place that it came from."""
        place = Place.parse(clip.name)
        if place is None:
            return "its message names no record", Place("", 0, 0)
        if not self._settings.reads(place.topic):
            return f"{place.topic} is no topic of the source", place
        found = self._read("source", self._settings, place)
        if not isinstance(found, str) and not self._holds(found, place, clip):
            found = "another record is at its place"
        if not isinstance(found, str) or clip.letter is None or self._letters is None:
            return found, place  # what is gone may lie in a dead letter
        letter = self._read("letters", self._letters, clip.letter)
        if isinstance(letter, str) or letter.value is None:
            return found, place
        errors = errors_of(letter.headers)
        is_its = errors.get("clip_id") == clip.clip_id and errors.get("topic") == place.topic
        return (letter if is_its else found), place

    def _read(self, role: str, settings: KafkaConnectionSettings, place: Place) -> ConsumerRecord | str:
        """Return the record at a place, or why there is none."""
        at = TopicPartition(place.topic, place.partition)
        if role not in self._readers:
            self._readers[role] = open_reader(settings, path=f"sources.{self._source}", max_poll_records=1)
        reader = self._readers[role]
        if place.partition not in (reader.partitions_for_topic(place.topic) or ()):
            return f"there is no partition {place.topic}/{place.partition}"
        reader.assign([at])
        first, end = reader.bounds(at, timeout_ms=ANSWER_MS)
        if place.offset < first:
            return f"its record is gone: {place.topic}/{place.partition} begins at {first} now"
        if place.offset >= end:
            return f"its record is not there: {place.topic}/{place.partition} ends at {end}"
        record = _record_at(reader, at, place.offset)
        if record is None:
            return "its record is gone: what is at its place can't be read"
        return record if record.value is not None else "its record has no value"

    def _holds(self, record: ConsumerRecord, place: Place, clip: Chosen) -> bool:
        """Whether a record is the clip's: it means that clip to the source, or is at the place that the id names."""
        delivery = self._decoder.decode(record, ClipPosition(), 0)
        if not isinstance(delivery, Delivery):
            return False
        delivery.clip.media.close()
        if delivery.clip.clip_id != str(place):
            return delivery.clip.clip_id == clip.clip_id
        topic_id = self._readers["source"].topic_ids([place.topic], timeout_ms=ANSWER_MS).get(place.topic, "")
        return clip.clip_id in (str(place), f"{place}@{topic_id}", f"{place}@{record.timestamp}")

    def _send(self, record: ConsumerRecord, origin: Place, clip: Chosen) -> None:
        if origin.topic not in self._may_write:
            check_topics(self._settings, [origin.topic], "WRITE", path=f"sources.{self._source}")
            self._may_write.add(origin.topic)
        said = {"clip_id": clip.clip_id, "first_window": "0"}
        said |= {"topic": origin.topic, "partition": str(origin.partition), "offset": str(origin.offset)}
        headers = headers_with_nulls(headers_again(record, said, self._key))
        if self._producer is None:
            self._producer = open_producer(
                KafkaSinkSettings.of_cluster(self._settings, compression=None),
                client_id="captiond-redo",
                path=f"sources.{self._source}",
            )
        self._producer.send(origin.topic, record.value, record.key, headers).get(timeout=SEND_S)


def _record_at(reader: Consumer, at: TopicPartition, offset: int) -> ConsumerRecord | None:
    """Return the record at an offset; None where reading comes past it, or to no record in time."""
    reader.seek(at, offset)
    deadline_s = time.monotonic() + _READ_S
    while time.monotonic() < deadline_s:
        for record in reader.poll(timeout_ms=POLL_MS, max_records=1).get(at, ()):
            found: ConsumerRecord = record
            return found if found.offset == offset else None
        if (reader.position(at, timeout_ms=ANSWER_MS) or 0) > offset:
            return None
    return None


def _no_reference(uri: str, name: str) -> NoReturn:
    raise Poison(Reason.FORBIDDEN_PATH, "it is only looked at", origin="source")
