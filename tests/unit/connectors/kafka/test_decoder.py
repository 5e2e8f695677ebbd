"""Whatever a producer writes into a record becomes a delivery: null headers, odd numbers, what nobody foresaw."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.contract import PROMPT_FROM, SENDER, ClipPosition, Delivery
from connectors.errors import Poison, Reason
from connectors.kafka.decoder import RecordDecoder
from connectors.kafka.record import REPLAY_PREFIX, SourceRecord
from connectors.kafka.replay_key import ReplayKey
from connectors.kafka.settings import SendersMay
from connectors.media.protocols import Media

PLAN = "ab" * 8
KNOWN = ("content-type", "prompt", "traceparent", "tracestate", "ce_specversion", "ce_id", "ce_source")
REPLAY = tuple(REPLAY_PREFIX + name for name in ("clip_id", "first_window", "plan_hash", "count"))


def broken(uri: str, name: str) -> Media:
    raise RecursionError("nobody foresaw it")


def record(*headers: tuple[str, bytes | None], value: bytes | None = b"video") -> Any:
    return SimpleNamespace(
        topic="clips", partition=0, offset=7, timestamp=0, key=b"k", value=value, headers=list(headers)
    )


def unreadable(uri: str, name: str) -> Media:
    raise Poison(Reason.FORBIDDEN_PATH, "no reference is allowed", origin="source")


def decoded(
    *headers: tuple[str, bytes | None],
    value: bytes = b"video",
    may: SendersMay | None = None,
    key: ReplayKey | None = None,
    opener: Callable[[str, str], Media] = broken,
) -> Delivery:
    decoder = RecordDecoder("t", {"clips": "What?"}, 2**20, opener, may or SendersMay(), key)
    delivery = decoder.decode(record(*headers, value=value), ClipPosition(), 1)
    assert isinstance(delivery, Delivery)
    delivery.clip.media.close()
    return delivery


@pytest.mark.parametrize("name", [*KNOWN, *REPLAY])
def test_a_header_without_a_value_is_as_if_it_were_not_there(name: str) -> None:
    delivery = decoded((name, None), may=SendersMay(replay=True))

    assert (delivery.clip.clip_id, delivery.position) == ("clips/0/7", ClipPosition())
    assert delivery.clip.attributes == {"prompt": "What?"}


@pytest.mark.parametrize("digits", [b"9" * 5000, b"9" * 30, "\u0663".encode(), b"-1", b"1.0", b"", b" 2", b"1_0"])
def test_a_first_window_that_is_no_small_number_counts_as_none(digits: bytes) -> None:
    headers = ((f"{REPLAY_PREFIX}first_window", digits), (f"{REPLAY_PREFIX}plan_hash", PLAN.encode()))

    delivery = decoded(*headers, may=SendersMay(replay=True))

    assert delivery.position == ClipPosition()


def test_what_nobody_foresaw_is_refused_with_its_stack_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    value = b'{"uri": "film.mp4", "clip_id": "other"}'

    delivery = decoded(value=value)

    with pytest.raises(Poison) as refused:
        delivery.clip.media.open()
    assert (refused.value.reason, refused.value.origin) == (Reason.MALFORMED, "source")
    assert refused.value.detail == "the record is not understood: RecursionError"
    assert isinstance(delivery.handle, SourceRecord)
    assert delivery.handle.value == value  # for its dead letter
    (told,) = caplog.records
    assert (told.levelno, told.exc_info is not None) == (logging.ERROR, True)


@pytest.mark.parametrize("lack", [OSError(24, "Too many open files"), MemoryError()])
def test_that_the_machine_has_no_room_is_not_the_records_fault(
    lack: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise lack

    monkeypatch.setattr("connectors.kafka.decoder.BytesMedia", full)

    with pytest.raises(type(lack)):
        decoded()


KEY = ReplayKey(b"k" * 32)


def replayed(key: ReplayKey | None, **more: str) -> list[tuple[str, bytes | None]]:
    said = {"clip_id": "film 7", "first_window": "2", "plan_hash": PLAN, "count": "1", "offset": "3"} | more
    if key is not None:
        said["signature"] = key.sign(said, b"k", b"video")
    return [(REPLAY_PREFIX + name, value.encode()) for name, value in said.items()]


def test_a_signed_replay_is_believed() -> None:
    delivery = decoded(*replayed(KEY), key=KEY, may=SendersMay(clip_id=False))

    assert (delivery.clip.clip_id, delivery.position) == ("film 7", ClipPosition(2, PLAN))


@pytest.mark.parametrize("signer", [None, ReplayKey(b"x" * 32)])
def test_an_unsigned_replay_is_a_clip_like_any_other_counted_and_said_once(
    signer: ReplayKey | None, caplog: pytest.LogCaptureFixture
) -> None:
    decoder = RecordDecoder("t", {}, 2**20, broken, replay_key=KEY)

    for _ in range(3):
        delivery = decoder.decode(record(*replayed(signer)), ClipPosition(), 1)
        assert isinstance(delivery, Delivery)
        assert (delivery.clip.clip_id, delivery.position) == ("clips/0/7", ClipPosition())
        delivery.clip.media.close()

    assert decoder.unsigned_replays == 3
    assert caplog.text.count("is not signed by this installation") == 1


def test_a_signature_of_another_value_is_none() -> None:
    assert decoded(*replayed(KEY), key=KEY, value=b"another video").clip.clip_id == "clips/0/7"


def test_any_replay_is_believed_where_the_configuration_says_so() -> None:
    delivery = decoded(*replayed(None), may=SendersMay(replay=True))

    assert (delivery.clip.clip_id, delivery.position) == ("film 7", ClipPosition(2, PLAN))


EVENT: list[tuple[str, bytes | None]] = [("ce_specversion", b"1.0"), ("ce_id", b"e-1"), ("ce_source", b"/cams/3")]
REFERENCE = b'{"uri": "film.mp4", "clip_id": "film-8", "prompt": "Who?"}'


@pytest.mark.parametrize(("allowed", "clip_id"), [(True, "/cams/3#e-1"), (False, "clips/0/7")])
def test_an_event_names_its_clip_where_senders_may(allowed: bool, clip_id: str) -> None:
    assert decoded(*EVENT, may=SendersMay(clip_id=allowed)).clip.clip_id == clip_id


@pytest.mark.parametrize(("allowed", "clip_id"), [(True, "film-8"), (False, "clips/0/7")])
def test_a_reference_names_its_clip_where_senders_may(allowed: bool, clip_id: str) -> None:
    delivery = decoded(value=REFERENCE, may=SendersMay(clip_id=allowed), opener=unreadable)

    assert delivery.clip.clip_id == clip_id


@pytest.mark.parametrize(("headers", "value"), [([("prompt", b"Who?")], b"video"), ([], REFERENCE)])
def test_a_prompt_is_the_senders_where_senders_may(headers: list[tuple[str, bytes | None]], value: bytes) -> None:
    asked = decoded(*headers, value=value, opener=unreadable).clip.attributes
    told = decoded(*headers, value=value, may=SendersMay(prompt=False), opener=unreadable).clip.attributes

    assert asked == {"prompt": "Who?", PROMPT_FROM: SENDER}
    assert told == {"prompt": "What?"}  # the topic's own, which the operator wrote


def test_a_clip_is_named_by_its_record_and_what_tells_its_topic_from_an_earlier_one() -> None:
    decoder = RecordDecoder("t", {}, 2**20, broken)

    delivery = decoder.decode(record(), ClipPosition(), 1, "RSMs-CEFR3ybkr3cemGhgA")

    assert isinstance(delivery, Delivery)
    assert delivery.clip.clip_id == "clips/0/7@RSMs-CEFR3ybkr3cemGhgA"
    assert delivery.clip.media.name == "clips/0/7"
    delivery.clip.media.close()


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ([("prompt", b"Who?"), ("prompt", None)], "Who?"),
        ([("prompt", b"Who?"), ("prompt", b"Where?")], "Where?"),
        ([("prompt", None), ("prompt", b"")], "What?"),
    ],
)
def test_of_several_headers_of_a_name_the_last_with_a_value_counts(
    headers: list[tuple[str, bytes | None]], kept: str
) -> None:
    given = decoded(*headers).clip.attributes

    assert {**given, PROMPT_FROM: SENDER} == {"prompt": kept, PROMPT_FROM: SENDER}


def test_a_records_other_headers_are_attributes_under_names_that_are_nobody_elses() -> None:
    headers = (("camera", b"North"), ("prompt_from", b"operator"), ("raw", b"\xff"), ("long", b"a" * 20_000))

    found = decoded(*headers).clip.attributes

    assert found == {"prompt": "What?", "attribute.camera": "North", "attribute.prompt_from": "operator"}
