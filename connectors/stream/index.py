"""The index of a recording: JSON lines that say what was recorded, where it lies, and what did not arrive.

The recorder appends to it and the daemon reads it, each in its own process. A line is whole or it is not there: half a
line at the end, which a crash can leave, is cut off by the recorder and waited for by the daemon.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

INDEX, RELEASED, LOCK = "index", "released", "lock"


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment: frames from ``start_ns`` on the wall clock to the next segment's first.

    ``key_ns`` is its first frame's time where that is a key frame, ``media_ns`` the time stamp that the stream gave it.
    """

    file: str
    format: str
    start_ns: int
    end_ns: int
    clock: str
    media_ns: int
    key_ns: int | None
    size_bytes: int
    arrived_ns: int
    frames: int


@dataclass(frozen=True, slots=True)
class Absence:
    """A stretch of the wall clock of which there is nothing, and why."""

    start_ns: int
    end_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Link:
    """The connection was made, or lost for a reason."""

    at_ns: int
    is_connected: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Mend:
    """A time that was mended."""

    at_ns: int
    kind: str
    by_ns: int


Line = Segment | Absence | Link | Mend
_KINDS: dict[str, type[Any]] = {"segment": Segment, "missing": Absence, "link": Link, "mended": Mend}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode_line(line: Line) -> bytes:
    """Return a line with its newline."""
    return json.dumps({"line": _NAMES[type(line)], **asdict(line)}).encode() + b"\n"


def decode_line(text: bytes) -> Line | None:
    """Return what a whole line says; None for one that says nothing, as damage leaves it."""
    try:
        fields = json.loads(text)
        line: Line = _KINDS[fields.pop("line")](**fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return line if is_sound(line) else None


def is_sound(line: Line) -> bool:
    """Whether each field of a line is what it is declared as: a recorder reads strangers' bytes and is not trusted."""
    if isinstance(line, Segment):
        numbers = line.start_ns, line.end_ns, line.media_ns, line.size_bytes, line.arrived_ns, line.frames
        is_whole = all(type(one) is int for one in numbers) and type(line.key_ns) in (int, type(None))
        return is_whole and _is_name(line.file) and _is_name(line.format) and line.clock in ("sender", "arrival")
    if isinstance(line, Absence):
        return type(line.start_ns) is int and type(line.end_ns) is int and _is_word(line.reason)
    if isinstance(line, Link):
        return type(line.at_ns) is int and type(line.is_connected) is bool and _is_word(line.reason)
    return type(line.at_ns) is int and type(line.by_ns) is int and _is_word(line.kind)


def _is_name(text: object) -> bool:
    """Whether a text is a file's name of ours, and so no way out of the folder."""
    return isinstance(text, str) and 0 < len(text) <= 64 and text.replace(".", "").replace("-", "").isalnum()


def _is_word(text: object) -> bool:
    return isinstance(text, str) and len(text) <= 64 and (not text or text.replace("_", "").isalnum())


@dataclass
class Contents:
    """What an index says altogether, as lines are added."""

    segments: list[Segment] = field(default_factory=list)
    missing: list[Absence] = field(default_factory=list)
    link: Link | None = None
    mended: dict[str, int] = field(default_factory=dict)
    latest_ns: int | None = None

    def add(self, line: Line) -> None:
        """Take a line. A stretch that is said to be missing, and was recorded, was thrown away."""
        if isinstance(line, Segment):
            self.segments.append(line)
            self._reach(line.end_ns)
        elif isinstance(line, Absence):
            if line.end_ns > line.start_ns:
                self._miss(line)
            self._reach(line.end_ns)
        elif isinstance(line, Link):
            self.link = line
        else:
            self.mended[line.kind] = self.mended.get(line.kind, 0) + 1

    def forget(self, until_ns: int) -> list[Segment]:
        """Forget what lies before a time, but for what the window that begins there needs; return the segments."""
        kept = self.first_needed(until_ns)
        gone, self.segments = self.segments[:kept], self.segments[kept:]
        self.missing = [one for one in self.missing if one.end_ns > until_ns]
        return gone

    def first_needed(self, start_ns: int) -> int:
        """Return the index of the segment with the key frame from which a frame at ``start_ns`` is decoded.

        Where that is not there any more, it is the first with a key frame behind it.
        """
        first = next((at for at, one in enumerate(self.segments) if one.end_ns > start_ns), len(self.segments))
        for at in range(min(first, len(self.segments) - 1), -1, -1):
            key = self.segments[at].key_ns
            if key is not None and key <= start_ns:
                return at
        rest = range(first, len(self.segments))
        return next((at for at in rest if self.segments[at].key_ns is not None), len(self.segments))

    def without(self, segments: Iterable[Segment]) -> "Contents":
        """Return the same without some segments, which were thrown away."""
        gone = {one.file for one in segments}
        missing = [Absence(one.start_ns, one.end_ns, "discarded") for one in self.segments if one.file in gone]
        kept = [one for one in self.segments if one.file not in gone]
        return Contents(kept, [*self.missing, *missing], self.link, self.mended, self.latest_ns)

    def _miss(self, line: Absence) -> None:
        if line.reason == "discarded":
            self.segments = [one for one in self.segments if not line.start_ns < one.end_ns <= line.end_ns]
        last = self.missing[-1] if self.missing else None
        if last is not None and last.reason == line.reason and last.end_ns == line.start_ns:
            self.missing[-1] = Absence(last.start_ns, line.end_ns, line.reason)
        else:
            self.missing.append(line)

    def _reach(self, end_ns: int) -> None:
        self.latest_ns = max(end_ns, self.latest_ns or end_ns)
