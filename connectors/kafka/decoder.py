"""The meaning of a Kafka record: a clip's bytes, a reference to one, or nothing.

A record that can't be understood is delivered all the same: its media refuses to open, with the reason, so it ends on
the one way that all clips end on.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from connectors.contract import ATTRIBUTE, PROMPT_FROM, SENDER, TOPICS_PROMPT, Clip, ClipPosition, Delivery
from connectors.errors import Poison, Reason
from connectors.kafka.client.consumer import ConsumerRecord
from connectors.kafka.record import REPLAY_PREFIX, PendingCommit, SourceRecord, Uninflated, given
from connectors.kafka.replay_key import ReplayKey
from connectors.kafka.settings import SendersMay
from connectors.media.bytes import BytesMedia
from connectors.media.protocols import Media
from connectors.media.refused import RefusedMedia
from connectors.messages.cloudevents import event_identity
from connectors.messages.codec import parse_reference

log = logging.getLogger(__name__)

_MAX_CLIP_ID_CHARACTERS = 512  # of a replay: a topic's name of 249, and what tells its records apart
_MAX_PROMPT_BYTES = 4 * 32_768  # a longer question than a prompt may have, in UTF-8, is refused by the prompt itself
_MAX_WINDOW_DIGITS = 7  # windows of a second make a film of 115 days
_TRACE_HEADERS = ("traceparent", "tracestate")
_MOST_HEADERS, _MAX_HEADER_BYTES = 64, 16_384  # of a record's own words about its clip


@dataclass
class RecordDecoder:
    """Makes deliveries of records; there is one for each source.

    ``open_reference`` returns the media that a reference means, or raises :class:`Poison` where it is not allowed.
    ``senders_may`` says what is believed of what a record says of itself, and ``replay_key`` whose replays are.
    With ``keeps_topics_prompt`` a sender's question does not replace the operator's for the topic.
    """

    source: str
    prompts: Mapping[str, str]
    max_clip_bytes: int
    open_reference: Callable[[str, str], Media]
    senders_may: SendersMay = field(default_factory=SendersMay)
    replay_key: ReplayKey | None = None
    keeps_topics_prompt: bool = False
    unsigned_replays: int = 0

    def decode(
        self, record: ConsumerRecord, position: ClipPosition, assignment: int, generation: str = ""
    ) -> Delivery | PendingCommit:
        """Return the delivery of a record, or for a null value the pending commit that skips it.

        This is the one boundary around what a producer wrote: what nobody foresaw in it is a refusal as well, and its
        stack is in the log. That the machine has no room for it is not the record's fault, and is raised.
        """
        origin = _origin(record, assignment, generation)
        if record.value is None:
            return PendingCommit(origin, None)
        try:
            return self._decode(origin, record.value, position)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            log.exception("%s can't be understood.", origin.name)
            fault = Poison(Reason.MALFORMED, f"the record is not understood: {type(error).__name__}", origin="source")
            media = RefusedMedia(origin.name, fault, len(record.value))
            clip = Clip(origin.clip_id, self.source, media, time.time_ns())
            return Delivery(clip, position, replace(origin, value=record.value))

    def _decode(self, origin: SourceRecord, value: bytes, position: ClipPosition) -> Delivery:
        headers = given(origin.headers)
        is_reference = _is_reference(value, headers)
        if is_reference:
            origin = replace(origin, value=value)
        attributes, name = self._attributes(origin.topic, headers), origin.name
        replay = self._replay(origin, headers, value)
        event = event_identity(headers) if self.senders_may.clip_id else ""
        clip_id = _acceptable(replay.get("clip_id")) or event or origin.clip_id
        media: Media
        try:
            if is_reference:
                reference = parse_reference(value)
                if reference.clip_id is not None and self.senders_may.clip_id and not replay.get("clip_id"):
                    clip_id = reference.clip_id
                if reference.prompt is not None and self.senders_may.prompt:
                    attributes = self._with_senders(attributes, reference.prompt)
                media = self.open_reference(reference.uri, name)
            else:
                media = self._of_bytes(name, value)
        except Poison as fault:
            media = RefusedMedia(name, fault, value.inflated_bytes if isinstance(value, Uninflated) else len(value))
        clip = Clip(clip_id, self.source, media, time.time_ns(), attributes)
        first_window, plan_hash = position.next_window, position.plan_hash
        if plan_hash is None and (replayed := _window(replay.get("first_window"))) is not None:
            first_window, plan_hash = replayed, replay.get("plan_hash")
        return Delivery(clip, position.moved(first_window, plan_hash), origin)

    def _of_bytes(self, name: str, value: bytes) -> Media:
        if isinstance(value, Uninflated):
            raise Poison(value.reason, value.detail, origin="source")
        if not value:
            raise Poison(Reason.EMPTY, "the value has no bytes", origin="source")
        if len(value) > self.max_clip_bytes:
            detail = f"{len(value)} bytes are more than limits.max_clip_bytes ({self.max_clip_bytes})"
            raise Poison(Reason.TOO_LARGE, detail, origin="source")
        return BytesMedia(name, value)

    def _attributes(self, topic: str, headers: Mapping[str, bytes]) -> dict[str, str]:
        """Return the clip's question and trace context: a header of its own wins over the topic's."""
        attributes = {"prompt": self.prompts[topic]} if topic in self.prompts else {}
        question = headers.get("prompt", b"")
        if self.senders_may.prompt and 0 < len(question) <= _MAX_PROMPT_BYTES:
            attributes = self._with_senders(attributes, question.decode(errors="replace"))
        attributes |= {name: headers[name].decode(errors="replace") for name in _TRACE_HEADERS if name in headers}
        return dict(_others(headers)) | attributes

    def _with_senders(self, attributes: Mapping[str, str], question: str) -> dict[str, str]:
        """Return the attributes with a sender's question; the topic's own stays beside it."""
        is_topics = self.keeps_topics_prompt and "prompt" in attributes and PROMPT_FROM not in attributes
        own = {TOPICS_PROMPT: attributes["prompt"]} if is_topics else {}
        return {**attributes, **own, "prompt": question, PROMPT_FROM: SENDER}

    def _replay(self, origin: SourceRecord, headers: Mapping[str, bytes], value: bytes) -> Mapping[str, str]:
        """Return what a record says of its replay, where that is believed; else nothing."""
        said = {
            name.removeprefix(REPLAY_PREFIX): text.decode(errors="replace")
            for name, text in headers.items()
            if name.startswith(REPLAY_PREFIX)
        }
        if not said or self.senders_may.replay:
            return said
        if self.replay_key is not None and self.replay_key.knows(said, origin.key, value):
            return said
        if not self.unsigned_replays:
            log.warning(
                "%s says that it is a replay and is not signed by this installation: it is a clip like any other. "
                "senders_may.replay of source %s would believe it. Others are only counted.",
                origin.name,
                self.source,
            )
        self.unsigned_replays += 1
        return {}


def _others(headers: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Yield what a record's other headers say, for questions that have a place for it: text, of bounded size."""
    for name, value in itertools.islice(headers.items(), _MOST_HEADERS):
        if len(value) > _MAX_HEADER_BYTES or name == "prompt" or name in _TRACE_HEADERS:
            continue
        try:
            yield ATTRIBUTE + name, value.decode()
        except UnicodeDecodeError:
            continue


def _origin(record: ConsumerRecord, assignment: int, generation: str) -> SourceRecord:
    place = (record.topic, record.partition, record.offset)
    headers = tuple(record.headers)
    return SourceRecord(*place, assignment, record.timestamp, record.key, headers, generation=generation)


def _is_reference(value: bytes, headers: Mapping[str, bytes]) -> bool:
    """Tell a reference from a video by the content type, else by the first bytes: no container begins with a brace."""
    content_type = headers.get("content-type", b"").split(b";")[0].strip().lower()
    if content_type == b"application/json" or content_type.endswith(b"+json"):
        return True
    if content_type.startswith((b"video/", b"image/")):
        return False
    return value[:64].lstrip().startswith((b"{", b"\xef\xbb\xbf{"))


def _acceptable(clip_id: str | None) -> str:
    """Return an id that may be a clip's; empty where it may not."""
    return clip_id if clip_id and len(clip_id) <= _MAX_CLIP_ID_CHARACTERS and clip_id.isprintable() else ""


def _window(digits: str | None) -> int | None:
    """Return the index of a window that a header gives; None where it gives none."""
    if digits is None or not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_WINDOW_DIGITS):
        return None
    return int(digits)
