"""An event is known by its source and its id together, whatever bytes they are."""

import itertools

import pytest

from connectors.messages.cloudevents import event_identity

SOURCES = [b"/cams/3", b"/cams/3#1", b"/cams/3#", b"/c\xff", b"/c\xfe", b"s" * 300, b"s" * 299 + b"t", b"a b"]
IDS = [b"1", b"2", b"1#1", b"#1", b"\xff", b"\xfe", "\N{NO-BREAK SPACE}".encode(), b"\n", b"i" * 300, b" 1"]


def identity(source: bytes, event_id: bytes, **more: bytes) -> str:
    return event_identity({"ce_specversion": b"1.0", "ce_source": source, "ce_id": event_id} | more)


def test_source_and_id_are_the_identity_and_the_subject_is_not() -> None:
    assert identity(b"/cams/3", b"e-1", ce_subject=b"porch") == identity(b"/cams/3", b"e-1") == "/cams/3#e-1"


def test_no_two_pairs_are_one_identity_and_each_is_a_clips_id() -> None:
    found = [identity(source, event_id) for source, event_id in itertools.product(SOURCES, IDS)]

    assert len(set(found)) == len(SOURCES) * len(IDS)
    assert all(0 < len(each) <= 256 and each.isprintable() for each in found)


@pytest.mark.parametrize("missing", ["ce_specversion", "ce_source", "ce_id"])
def test_what_lacks_one_is_no_event(missing: str) -> None:
    headers = {"ce_specversion": b"1.0", "ce_source": b"/cams/3", "ce_id": b"1", "ce_subject": b"porch"}

    assert event_identity(headers | {missing: b""} if missing != "ce_specversion" else {"ce_id": b"1"}) == ""
    del headers[missing]
    assert event_identity(headers) == ""
