"""Wall time in messages: RFC 3339 in UTC, exact to the nanosecond, and short where it is whole milliseconds."""

from datetime import UTC, datetime

_NS_PER_S, _NS_PER_MS = 1_000_000_000, 1_000_000


def wall_text(ns: int) -> str:
    """Return a time, in nanoseconds since the epoch, as ``2026-01-02T03:04:05.678Z``, or with nine digits behind it."""
    seconds, rest_ns = divmod(ns, _NS_PER_S)
    behind = f"{rest_ns:09d}" if rest_ns % _NS_PER_MS else f"{rest_ns // _NS_PER_MS:03d}"
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{behind}Z"


def wall_ns(text: str) -> int:
    """Return the nanoseconds since the epoch of such a text; :class:`ValueError` where it is none."""
    head, _, behind = text.partition(".")
    digits = behind.removesuffix("Z")
    if not (behind.endswith("Z") and digits.isdigit() and digits.isascii() and len(digits) <= 9):
        raise ValueError(f"{text!r} is no time of a message")
    seconds = int(datetime.strptime(head, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())
    return seconds * _NS_PER_S + int(digits.ljust(9, "0"))
