"""Messages: JSON, schemas and headers."""

import json
from dataclasses import replace
from types import MappingProxyType

import jsonschema
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import (
    Attempt,
    Caption,
    CaptionStatus,
    FramesShown,
    Missing,
    Rejection,
    SameAs,
    StreamWindow,
    Usage,
    WindowSpan,
)
from connectors.errors import Reason
from connectors.messages.cloudevents import caption_headers, rejection_headers
from connectors.messages.codec import (
    caption_from_json,
    caption_to_json,
    message_from_json,
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


STREAM = StreamWindow(
    450_000_000,
    1_800_000_000_000_000_000,
    1_800_000_004_000_000_001,
    "sender",
    (Missing(1_800_000_001_000_000_000, 1_800_000_002_500_000_000, "away"),),
    thinned=True,
    arrived_ns=5,
)


REJECTION = Rejection("clip-1", "inbox", Reason.TRUNCATED, "at 14.87 s of 30.00 s", "sampler", 2)


def test_captions_come_back_as_they_were() -> None:
    assert caption_from_json(caption_to_json(CAPTION, "a/b.mp4")) == CAPTION
    assert message_from_json(caption_to_json(CAPTION)) == CAPTION


def test_a_streams_window_has_its_wall_time() -> None:
    caption = replace(CAPTION, stream=STREAM, status=CaptionStatus.SUCCESS)
    value = caption_to_json(caption)

    assert json.loads(value)["stream"] == {
        "index": 450_000_000,
        "wall_start": "2027-01-15T08:00:00.000Z",
        "wall_end": "2027-01-15T08:00:04.000000001Z",
        "clock": "sender",
        "missing": [
            {"wall_start": "2027-01-15T08:00:01.000Z", "wall_end": "2027-01-15T08:00:02.500Z", "reason": "away"}
        ],
        "thinned": True,
    }
    assert caption_from_json(value) == caption
    (headers,) = caption_headers([caption], 0)
    assert dict(headers)["captiond_wall_start"] == b"2027-01-15T08:00:00.000Z"
    assert dict(headers)["captiond_wall_end"] == b"2027-01-15T08:00:04.000000001Z"


@pytest.mark.parametrize("status", [CaptionStatus.GAP, CaptionStatus.SKIPPED])
def test_the_schema_knows_windows_that_nobody_was_asked_about(status: CaptionStatus) -> None:
    value = caption_to_json(replace(CAPTION, stream=STREAM, status=status, text="", reason="away"))

    jsonschema.validate(json.loads(value), schemas()["caption"])
    assert caption_from_json(value).status is status


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


_ATTEMPTS = st.lists(
    st.builds(Attempt, text=st.text(), detail=st.text(), reason=st.text(st.characters(codec="utf-8"))), max_size=2
)


_OFTEN_LEFT_OUT = {
    "prompt": st.none() | st.text(st.characters(codec="utf-8")),
    "data": st.none() | _JSON,
    "reason": st.just("") | st.text(st.characters(codec="utf-8")),
    "attempts": _ATTEMPTS.map(tuple),
    "input": st.none() | st.sampled_from(["black", "frozen"]),
    "same_as": st.none() | st.builds(SameAs, st.just("caption-0"), st.text()),
    "context_windows": st.none() | st.integers(0, 9),
    "stream": st.none() | st.just(STREAM),
}


_CAPTIONS = st.builds(
    Caption,
    text=st.text(),
    detail=st.text(),
    source=st.text(),
    window=st.just(CAPTION.window),
    **_OFTEN_LEFT_OUT,
)


@given(_CAPTIONS)
def test_a_caption_is_written_as_its_schema_says(caption: Caption) -> None:
    """The writer goes round the schema's checks, and writes what the schema would, key by key."""
    try:
        checked = CaptionMessage.model_validate(caption)
        wanted = checked.model_dump_json()
    except ValueError:  # an id that is no UTF-8, a number below 0: the daemon makes none
        return

    written = json.loads(caption_to_json(caption))
    assert written == json.loads(wanted)
    assert [*written] == [*json.loads(wanted)]
    assert [*written] == [name for name in CaptionMessage.model_fields if name in written]
    assert [*written][:17] == [*CaptionMessage.model_fields][:17]
    assert {*written} - {*[*CaptionMessage.model_fields][:17]} == {
        name for name in _OFTEN_LEFT_OUT if getattr(caption, name) != getattr(CAPTION, name)
    }


def test_a_caption_that_nothing_was_asked_of_has_the_keys_that_it_always_had() -> None:
    assert [*json.loads(caption_to_json(CAPTION))] == [
        *("schema_version", "type", "caption_id", "clip_id", "source", "clip_name", "window", "text", "status"),
        *("model", "prompt_hash", "plan_hash", "usage", "frames", "timing_ms", "detail", "media_start_ns"),
    ]


EVERYTHING = replace(
    CAPTION,
    prompt="alert",
    data={"fire": False, "who": ["a", None, 1.5]},
    reason="schema",
    attempts=(Attempt(CaptionStatus.LOOPING, "no no no", "repeats", "says no 3 times", 0.7, 1, 3),),
    input="black",
    same_as=SameAs("caption-0", "A red circle."),
    context_windows=0,
)


@pytest.mark.parametrize("status", CaptionStatus)
def test_every_status_and_every_key_fits_the_schema_and_comes_back(status: CaptionStatus) -> None:
    caption = replace(EVERYTHING, status=status)

    written = caption_to_json(caption)

    jsonschema.validate(json.loads(written), schemas()["caption"])
    assert caption_from_json(written) == caption


def test_data_with_half_a_pair_is_written_all_the_same() -> None:
    data = {"a\ud800": ["\udc00", {"b": "\ud83d"}], "c": "\u202e"}

    written = caption_to_json(replace(CAPTION, data=data))

    assert json.loads(written)["data"] == {"a\ufffd": ["\ufffd", {"b": "\ufffd"}], "c": "\u202e"}
    assert "\u202e".encode() not in written


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


def _fields(**changed: object) -> dict[str, object]:
    known = {name: getattr(CAPTION, name) for name in CAPTION.__dataclass_fields__}
    return known | changed
