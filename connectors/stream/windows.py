"""A window put together of a recording's segments: one file, where the window lies in it, and what is missing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from connectors.contract import Missing
from connectors.media.bytes import BytesMedia
from connectors.stream.index import Contents, Segment
from connectors.stream.recording import Clock, MissingReason, RecordedWindow

_REASONS = get_args(MissingReason)
_TICK_NS = 1_000  # of the clock that segments are written with


@dataclass(frozen=True, slots=True)
class Parts:
    """The segments of one window, all of one format, with those before it from the key frame on."""

    segments: tuple[Segment, ...]
    missing: tuple[Missing, ...]


def parts_of(contents: Contents, start_ns: int, end_ns: int) -> Parts:
    """Return what a window is put together of. Of several formats it is the one that has the most of it."""
    first = contents.first_needed(start_ns)
    needed = [one for one in contents.segments[first:] if one.start_ns < end_ns]
    shares: dict[str, int] = {}
    for one in needed:
        shares[one.format] = shares.get(one.format, 0) + max(min(one.end_ns, end_ns) - max(one.start_ns, start_ns), 0)
    chosen = max(shares, key=lambda name: shares[name], default=None)
    if chosen is None or not shares[chosen]:
        return Parts((), tuple(_missing(contents, [], start_ns, end_ns)))
    mine = _decodable([one for one in needed if one.format == chosen])
    return Parts(tuple(mine), tuple(_missing(contents, mine, start_ns, end_ns)))


def _decodable(segments: list[Segment]) -> list[Segment]:
    first = next((at for at, one in enumerate(segments) if one.key_ns is not None), len(segments))
    return segments[first:]


def _missing(contents: Contents, mine: list[Segment], start_ns: int, end_ns: int) -> Iterator[Missing]:
    """Yield each stretch that no segment covers, with its reason, in order."""
    at = start_ns
    for begin, end in [*((one.start_ns, one.end_ns) for one in mine), (end_ns, end_ns)]:
        if begin > at:
            yield from _reasons(contents, at, min(begin, end_ns))
        at = max(at, end)
        if at >= end_ns:
            return


def _reasons(contents: Contents, start_ns: int, end_ns: int) -> Iterator[Missing]:
    said: list[tuple[int, int, str]] = [(one.start_ns, one.end_ns, one.reason) for one in contents.missing]
    said += [(one.start_ns, one.end_ns, "format_changed") for one in contents.segments]
    at = start_ns
    for begin, end, reason in sorted(said):
        if end <= at or begin >= end_ns:
            continue
        if begin > at:
            yield Missing(at, begin, "not_recording")
            at = begin
        yield Missing(at, min(end, end_ns), reason if reason in _REASONS else "away")
        at = min(end, end_ns)
    if at < end_ns:
        yield Missing(at, end_ns, "not_recording")


def assembled(name: str, folder: Path, parts: Parts, start_ns: int, end_ns: int) -> RecordedWindow:
    """Return the window with its media in memory; ``FileNotFoundError`` where a segment was thrown away meanwhile."""
    segments = parts.segments
    if not segments:
        return RecordedWindow(start_ns, end_ns, "arrival", None, None, parts.missing, end_ns)
    key_ns = segments[0].key_ns
    assert key_ns is not None  # noqa: S101 - it was chosen for it
    zero = key_ns - key_ns % _TICK_NS
    within = [one for one in segments if one.end_ns > start_ns]
    clock: Clock = "sender" if all(one.clock == "sender" for one in within) else "arrival"
    media = BytesMedia(name, _pieces(folder, segments))
    arrived_ns = max(one.arrived_ns for one in within)
    return RecordedWindow(
        start_ns, end_ns, clock, media, (start_ns - zero, end_ns - zero), parts.missing, arrived_ns
    )  # fmt: skip


def _pieces(folder: Path, segments: tuple[Segment, ...]) -> Iterator[bytes]:
    yield (folder / segments[0].format).read_bytes()
    for one in segments:
        data = (folder / one.file).read_bytes()
        if len(data) != one.size_bytes:
            raise FileNotFoundError(one.file)
        yield data
