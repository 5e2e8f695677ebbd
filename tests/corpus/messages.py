"""Forty messages that no one should send, and why each is refused. Those that name a path are about references."""

import json
from dataclasses import dataclass, field

from tests.corpus.broken import PLAYLISTS

_LONG = 2**16


@dataclass(frozen=True)
class BadMessage:
    """A record's value and headers, and the reason code of its rejection."""

    name: str
    value: bytes
    reason: str
    headers: dict[str, bytes] = field(default_factory=dict)


def _refers(**keys: object) -> bytes:
    return json.dumps(keys).encode()


_JSON = {"content-type": b"application/json"}
_MALFORMED: dict[str, bytes] = {
    "half an object": b'{"uri": "a.mp4"',
    "an object and a word": b'{"uri": "a.mp4"} and',
    "two objects": b'{"uri": "a.mp4"}{"uri": "b.mp4"}',
    "a brace alone": b"{",
    "no key": b"{}",
    "an unknown key": _refers(uri="a.mp4", fps=3),
    "no uri": _refers(clip_id="a"),
    "a number for a uri": _refers(uri=3),
    "null for a uri": _refers(uri=None),
    "a list for a uri": _refers(uri=["a.mp4"]),
    "an empty uri": _refers(uri=""),
    "a uri of 5,000 characters": _refers(uri="a" * 5000),
    "an empty clip_id": _refers(uri="a.mp4", clip_id=""),
    "a clip_id with a line end": _refers(uri="a.mp4", clip_id="a\nb"),
    "a clip_id of 300 characters": _refers(uri="a.mp4", clip_id="a" * 300),
    "a true prompt": _refers(uri="a.mp4", prompt=True),
    "an empty prompt": _refers(uri="a.mp4", prompt=""),
    "100,000 deep": b'{"uri": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "nine deep": b'{"uri": ' + b"[" * 9 + b"]" * 9 + b"}",
    "more than 64 KiB": _refers(uri="a.mp4", prompt="a" * _LONG),
    "5,000 digits": b'{"uri": ' + b"9" * 5000 + b"}",
    "NaN": b'{"uri": NaN}',
    "infinity": b'{"uri": -Infinity}',
    "1e999": b'{"uri": 1e999}',
    "a key twice": b'{"uri": "a.mp4", "uri": "/etc/passwd"}',
    "Latin-1": '{"uri": "ä.mp4"}'.encode("latin-1"),
    "half a surrogate": b'{"uri": "\xed\xa0\x80.mp4"}',
    "a byte order mark": b'\xef\xbb\xbf{"uri": "a.mp4"}',
    "single quotes": b"{'uri': 'a.mp4'}",
    "a comment": b'{"uri": "a.mp4" /* that one */}',
}
_AS_JSON: dict[str, bytes] = {
    "a list": b'["a.mp4"]',
    "a string": b'"a.mp4"',
    "bytes said to be JSON": b"\x00\x00\x00\x18ftypmp42",
}
_FORBIDDEN: dict[str, bytes] = {
    "a path of the machine": _refers(uri="/etc/passwd"),
    "a way up": _refers(uri="../../etc/passwd"),
    "a server": _refers(uri="http://127.0.0.1:9/a.mp4"),
}
_NOT_CLIPS: dict[str, tuple[bytes, str]] = {
    "no bytes": (b"", "empty"),
    "text": (b"hello", "not_a_video"),
    "a playlist": (PLAYLISTS["hls"] % 9, "forbidden_format"),
    "a session description": (PLAYLISTS["sdp"] % 9, "forbidden_format"),
}

BAD_MESSAGES: tuple[BadMessage, ...] = (
    *(BadMessage(name, value, "malformed") for name, value in _MALFORMED.items()),
    *(BadMessage(name, value, "malformed", _JSON) for name, value in _AS_JSON.items()),
    *(BadMessage(name, value, "forbidden_path") for name, value in _FORBIDDEN.items()),
    *(BadMessage(name, value, reason) for name, (value, reason) in _NOT_CLIPS.items()),
)
