"""References from outside: what is one, and what is malformed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import Poison, Reason
from connectors.messages.codec import (
    MAX_REFERENCE_BYTES,
    parse_reference,
)


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
