"""Messages: JSON, schemas, headers, and references from outside."""

import json
from types import MappingProxyType

import jsonschema
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import Caption, CaptionStatus, FramesShown, Rejection, Usage, WindowSpan
from connectors.errors import Poison, Reason
from connectors.messages.cloudevents import caption_headers, rejection_headers
from connectors.messages.codec import (
    MAX_REFERENCE_BYTES,
    caption_from_json,
    caption_to_json,
    message_from_json,
    parse_reference,
    rejection_to_json,
)
from connectors.messages.schema import CaptionMessage, schemas
from scripts.write_schemas import schema_texts
from testing.repository import ROOT

CAPTION = Caption(
    "caption-1",
    "clip-1",
    "inbox",
    WindowSpan(3, 30_000_000_000, 40_000_000_000),
    "A red circle.\nIt moves.",
    CaptionStatus.TRUNCATED,
    "model",
    "prompt",
    "plan",
    Usage(100, 80, 20),
    FramesShown((0, 5), 2, 1, "keyframe", 64, 48),
    MappingProxyType({"decode": 1.5}),
    "why",
)
REJECTION = Rejection("clip-1", "inbox", Reason.TRUNCATED, "at 14.87 s of 30.00 s", "sampler", 2)


def test_captions_come_back_as_they_were() -> None:
    assert caption_from_json(caption_to_json(CAPTION, "a/b.mp4")) == CAPTION
    assert message_from_json(caption_to_json(CAPTION)) == CAPTION


@given(st.builds(Caption, text=st.text(), detail=st.text(), source=st.text(), window=st.just(CAPTION.window)))
def test_a_caption_is_written_as_its_schema_says(caption: Caption) -> None:
    """The writer goes round the schema's checks, and writes what the schema would, key by key."""
    try:
        checked = CaptionMessage.model_validate(caption)
        wanted = checked.model_dump_json()
    except ValueError:  # an id that is no UTF-8, a number below 0: the daemon makes none
        return

    assert json.loads(caption_to_json(caption)) == json.loads(wanted)
    assert [*json.loads(caption_to_json(caption))] == [*CaptionMessage.model_fields]


def test_rejections_come_back_as_they_were() -> None:
    assert message_from_json(rejection_to_json(REJECTION, "a/b.mp4", 3)) == REJECTION


@given(st.text(st.characters(), max_size=50), st.text(st.characters(), max_size=20))
def test_a_message_is_one_line_of_utf_8(text: str, name: str) -> None:
    caption = Caption("i", "c", "s", WindowSpan(0, 0, 1), text, CaptionStatus.SUCCESS, "m", "p", "h")

    message = caption_to_json(caption, name)

    assert message.count(b"\n") == 0
    parsed = json.loads(message.decode())
    jsonschema.validate(parsed, schemas()["caption"])
    assert not any(ord(char) < 32 and char not in "\n\t" for char in parsed["text"])
    assert caption_from_json(message).text == parsed["text"]


def test_texts_lose_what_would_act_on_a_terminal() -> None:
    text = "a\x1b[31mb\x00\r\nc\x85d\u202ee\ud800"

    message = json.loads(caption_to_json(Caption(**_fields(text=text))))

    assert message["text"] == "a[31mb\nc\nde\ufffd"


def test_texts_have_a_bound() -> None:
    assert len(json.loads(caption_to_json(Caption(**_fields(text="a" * 200_000))))["text"]) == 65_536


def test_messages_keep_their_schemas() -> None:
    jsonschema.validate(json.loads(caption_to_json(CAPTION)), schemas()["caption"])
    jsonschema.validate(json.loads(rejection_to_json(REJECTION, "a", 3)), schemas()["rejection"])
    jsonschema.validate({"uri": "a.mp4", "prompt": "What?"}, schemas()["reference"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"uri": "a.mp4", "extra": 1}, schemas()["reference"])


def test_schema_files_are_those_of_the_code() -> None:
    """Corrected by ``PYTHONPATH=. python scripts/write_schemas.py``."""
    folder = ROOT / "connectors" / "schemas"

    assert {path.name: path.read_text() for path in folder.iterdir()} == schema_texts()


@pytest.mark.parametrize("rejected", [False, True])
def test_headers_are_cloudevents(rejected: bool) -> None:
    at_ns = 1_764_000_000_123_000_000
    headers = rejection_headers(REJECTION, at_ns) if rejected else next(caption_headers([CAPTION], at_ns))
    value = rejection_to_json(REJECTION) if rejected else caption_to_json(CAPTION)

    event = from_binary(KafkaMessage(dict(headers), b"clip-1", value), JSONFormat(), CloudEvent)

    assert event.get_type() == ("captiond.clip.v1" if rejected else "captiond.caption.v1")
    assert event.get_source() == "/captiond/inbox"
    assert event.get_subject() == "clip-1"
    assert rejected or event.get_id() == "caption-1"
    assert event.get_datacontenttype() == "application/json"
    assert event.get_time().isoformat() == "2025-11-24T16:00:00.123000+00:00"


def test_a_rejection_has_the_same_id_again() -> None:
    assert dict(rejection_headers(REJECTION))["ce_id"] == dict(rejection_headers(REJECTION))["ce_id"]


def test_references() -> None:
    found = parse_reference(b' {"uri": "a/b.mp4", "clip_id": "x-1", "prompt": "What?"} ')

    assert (found.uri, found.clip_id, found.prompt) == ("a/b.mp4", "x-1", "What?")
    assert parse_reference(b'{"uri": "a"}').clip_id is None


MALFORMED = {
    "nothing": b"",
    "blank": b"  ",
    "not json": b"{uri: a}",
    "cut": b'{"uri": "a"',
    "two values": b'{"uri": "a"} {}',
    "a comment": b'{"uri": "a"} // no',
    "not utf-8": b'{"uri": "\xff"}',
    "utf-16": '{"uri": "a"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"uri": "a"}',
    "a list": b'["a"]',
    "a string": b'"a"',
    "a number": b"1",
    "null": b"null",
    "true": b"true",
    "no uri": b"{}",
    "an unknown key": b'{"uri": "a", "url": "b"}',
    "an unknown key of the prototype": b'{"uri": "a", "__class__": "b"}',
    "the key twice": b'{"uri": "a", "uri": "b"}',
    "an inner key twice": b'{"uri": {"a": 1, "a": 2}}',
    "uri null": b'{"uri": null}',
    "uri a number": b'{"uri": 1}',
    "uri a list": b'{"uri": ["a"]}',
    "uri empty": b'{"uri": ""}',
    "uri too long": b'{"uri": "' + b"a" * 5000 + b'"}',
    "half a pair": b'{"uri": "\\ud800"}',
    "clip_id a number": b'{"uri": "a", "clip_id": 7}',
    "clip_id empty": b'{"uri": "a", "clip_id": ""}',
    "clip_id with a space": b'{"uri": "a", "clip_id": "a b"}',
    "clip_id with a line end": b'{"uri": "a", "clip_id": "a\\n"}',
    "clip_id too long": b'{"uri": "a", "clip_id": "' + b"a" * 257 + b'"}',
    "prompt empty": b'{"uri": "a", "prompt": ""}',
    "prompt an object": b'{"uri": "a", "prompt": {}}',
    "prompt too long": b'{"uri": "a", "prompt": "' + b"a" * 32_769 + b'"}',
    "NaN": b'{"uri": NaN}',
    "infinity": b'{"uri": -Infinity}',
    "a float too large": b'{"uri": 1e999}',
    "5000 digits": b'{"uri": ' + b"1" * 5000 + b"}",
    "deep lists": b'{"uri": ' + b"[" * 30_000,
    "deep objects": b'{"a":' * 10_000,
    "deep and closed": b'{"uri": ' + b"[" * 20 + b"]" * 20 + b"}",
    "brackets in a string": b'{"uri": "' + b"[" * 5000 + b'"}',
    "too many bytes": b'{"uri": "a"' + b" " * MAX_REFERENCE_BYTES + b"}",
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_malformed_references(value: bytes) -> None:
    with pytest.raises(Poison) as refused:
        parse_reference(value)

    assert refused.value.reason == Reason.MALFORMED
    assert 0 < len(refused.value.detail) < 300
    assert "\n" not in refused.value.detail


@given(st.binary(max_size=200))
def test_any_bytes_are_a_reference_or_malformed(value: bytes) -> None:
    try:
        parse_reference(value)
    except Poison as refused:
        assert refused.reason == Reason.MALFORMED  # noqa: PT017


def _fields(**changed: object) -> dict[str, object]:
    known = {name: getattr(CAPTION, name) for name in CAPTION.__dataclass_fields__}
    return known | changed
