"""The clips whose messages in topics meet conditions: captions, and dead letters as if their headers were a message.

The last answer to a question about a window counts: where it was asked again since, the earlier one chooses nothing. A
dead letter counts until captions of its clip come later. Only clips that are chosen are remembered, and where dead
letters lie, up to a number.
"""

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from connectors.kafka.client.admin import check_topics
from connectors.kafka.client.consumer import Consumer, ConsumerRecord, TopicPartition, open_reader
from connectors.kafka.client.errors import BrokerAway, translate
from connectors.kafka.replay import ANSWER_MS, POLL_MS, errors_of
from connectors.kafka.settings import KafkaSinkSettings
from connectors.messages.schema import CLIP_TYPE
from connectors.redo.chosen import Chosen, Place
from connectors.redo.conditions import Condition, all_met

_STANDSTILL_S = 60.0  # without a record and without a step towards the end
_LATER_MS = 1000  # two topics' records of one progress may have times that differ by less
_MOST_LETTERS = 200_000  # whose places are remembered for clips that captions choose

_Clip = tuple[str, str]
_Question = tuple[str, int]


def chosen_clips(
    settings: KafkaSinkSettings, sources: Collection[str], conditions: Sequence[Condition]
) -> list[Chosen]:
    """Return the clips of which a message meets all conditions, up to the ends that the topics have now."""
    letters = {settings.dead_letter_topic_for(source) for source in sources}
    captions = {topic for source in sources for topic in settings.topics_for(source)}
    partitions = check_topics(settings, letters | captions, "READ", path="sink")
    reader = open_reader(settings, path="sink")
    found = _Found(conditions)
    try:
        for topic in sorted(letters):
            for record in _records(reader, topic, partitions[topic]):
                found.take_letter(record)
        for topic in sorted(captions):
            for record in _records(reader, topic, partitions[topic]):
                found.take_caption(record)
    except Exception as error:
        raise translate(error, path="sink") from error
    finally:
        reader.close(autocommit=False)
    return list(found.chosen())


def _records(reader: Consumer, topic: str, count: int) -> Iterator[ConsumerRecord]:
    """Yield the records of a topic up to the ends that it has now; each partition's in order."""
    places = [TopicPartition(topic, number) for number in range(count)]
    reader.assign(places)
    reader.seek_to_beginning(*places)
    ends = reader.end_offsets(places, timeout_ms=ANSWER_MS)
    before, since_s = list[int | None](), time.monotonic()
    while True:
        at = [reader.position(place, timeout_ms=ANSWER_MS) for place in places]
        if all((position or 0) >= ends[place] for position, place in zip(at, places, strict=True)):
            return
        if at != before:
            before, since_s = at, time.monotonic()
        elif time.monotonic() - since_s > _STANDSTILL_S:
            raise BrokerAway(f"{topic} can't be read on from {at}")
        for place, records in reader.poll(timeout_ms=POLL_MS).items():
            yield from (record for record in records if record.offset < ends[place])


@dataclass
class _Candidate:
    """A clip of which a message met the conditions: which of its answers do, and whether its rejection does."""

    name: str = ""
    answers: dict[_Question, tuple[str, int]] = field(default_factory=dict)  # the plan, and when it was written
    rejected_ms: int | None = None

    def take_answer(self, message: Mapping[str, Any], written_ms: int, *, meets: bool) -> None:
        prompt, plan = str(message.get("prompt") or ""), str(message.get("plan_hash", ""))
        window = message.get("window")
        index = window.get("index", 0) if isinstance(window, Mapping) else 0
        earlier = [asked for asked, (of, _) in self.answers.items() if asked[0] == prompt and of != plan]
        for asked in earlier:  # windows of another plan are not there any more
            del self.answers[asked]
        if meets:
            self.answers[prompt, index] = (plan, written_ms)
        else:
            self.answers.pop((prompt, index), None)
        if self.rejected_ms is not None and written_ms > self.rejected_ms + _LATER_MS:
            self.rejected_ms = None

    @property
    def said_ms(self) -> int | None:
        """When the last message that meets the conditions was written; None where none does any more."""
        times = [written_ms for _, written_ms in self.answers.values()]
        return max([*times, *([] if self.rejected_ms is None else [self.rejected_ms])], default=None)


class _Found:
    """What reading the topics has found so far. Dead letters are read first."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._conditions = conditions
        self._clips: dict[_Clip, _Candidate] = {}
        self._letters: dict[_Clip, Place] = {}

    def take_letter(self, record: ConsumerRecord) -> None:
        message = _letter_message(record)
        if message is None:
            return
        clip = (str(message.get("source")), str(message.get("clip_id")))
        if record.value is not None and len(self._letters) < _MOST_LETTERS:
            self._letters[clip] = Place(record.topic, record.partition, record.offset)
        if all_met(self._conditions, message):
            candidate = self._clips.setdefault(clip, _Candidate())
            candidate.name, candidate.rejected_ms = str(message.get("clip_name") or ""), record.timestamp
        else:
            self._clips.pop(clip, None)  # the last rejection counts

    def take_caption(self, record: ConsumerRecord) -> None:
        message = _message(record)
        if message is None:
            return
        clip = (str(message.get("source")), str(message.get("clip_id")))
        meets = all_met(self._conditions, message)
        candidate = self._clips.setdefault(clip, _Candidate()) if meets else self._clips.get(clip)
        if candidate is not None:
            candidate.name = str(message.get("clip_name") or "") or candidate.name
            candidate.take_answer(message, record.timestamp, meets=meets)

    def chosen(self) -> Iterator[Chosen]:
        for clip, candidate in self._clips.items():
            if (said_ms := candidate.said_ms) is not None:
                yield Chosen(*clip, candidate.name, said_ms=said_ms, letter=self._letters.get(clip))


def _message(record: ConsumerRecord) -> dict[str, Any] | None:
    """Return the message in a record; None where there is none of ours."""
    with suppress(ValueError, RecursionError):
        message = json.loads(record.value or b"")
        if isinstance(message, dict) and str(message.get("type", "")).startswith("captiond."):
            return message
    return None


def _letter_message(record: ConsumerRecord) -> dict[str, Any] | None:
    """Return what a dead letter says as the message of a rejection."""
    errors = errors_of(record.headers)
    if "clip_id" not in errors:
        return None
    if "topic" not in errors:
        return _message(record)  # of a clip that came in no record
    windows = errors.get("first_window", "")
    return {
        "type": CLIP_TYPE,
        "status": "rejected",
        "clip_id": errors["clip_id"],
        "source": errors.get("connector.name", ""),
        "clip_name": f"{errors['topic']}/{errors.get('partition', '')}/{errors.get('offset', '')}",
        "reason": errors.get("exception.class.name", ""),
        "detail": errors.get("exception.message", ""),
        "origin": errors.get("stage", ""),
        "attempts": errors.get("attempts", ""),
        "next_window": windows,
    }
