"""References from outside: each means media under an allowed root, or is refused.

Accepted are paths, absolute or relative to a root, and ``file:`` URIs of this machine. The path is taken as it is
written: no ``..``, no link on the way, nothing decoded twice, no other scheme. What it names is opened later by a walk
that follows no links, so a check here and a swap afterwards can't lead out either.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

from connectors.errors import Poison, Reason, Transient
from connectors.files.openat import is_component
from connectors.media.file import FileMedia
from connectors.media.protocols import Media

_MAX_CHARS = 4096  # PATH_MAX
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.,-]*:")  # with the comma of FFmpeg's "subfile,,start,0,:"
_FILE = re.compile(r"file:(?://(?:localhost)?)?(?=/[^/])", re.IGNORECASE)


def open_reference(uri: str, name: str, *, roots: Sequence[Path], max_clip_bytes: int) -> Media:
    """Return the media that a reference means; messages call it ``name``.

    :class:`Poison` is ``forbidden_path`` where the reference leads out of ``roots`` or over a link, and ``vanished``
    where nothing is there. What is there is held to be a regular file when it is opened.
    """
    if not roots:
        raise _forbidden("no folder is allowed for references: references.roots is empty")
    fault: Poison | None = None
    for root, parts in locate(uri, roots):
        try:
            return FileMedia.received(root, parts, max_clip_bytes, name)
        except Transient:
            return LateMedia(root, parts, max_clip_bytes, name)
        except Poison as refusal:
            fault = refusal if fault is None or fault.reason == Reason.VANISHED else fault
    raise fault if fault is not None else _forbidden("it is not under an allowed folder")


@dataclass(frozen=True, slots=True)
class LateMedia:
    """A file that could not be looked at when it was received, because of the disk: it is looked at when opened."""

    root: Path = field(repr=False)
    parts: tuple[str, ...] = field(repr=False)
    max_clip_bytes: int
    name: str
    size_bytes: int = 0

    def open(self) -> int:
        """Return a descriptor of what the file is now."""
        return FileMedia.received(self.root, self.parts, self.max_clip_bytes, self.name).open()

    def close(self) -> None:
        return


def locate(uri: str, roots: Sequence[Path]) -> list[tuple[Path, tuple[str, ...]]]:
    """Return each root and path beneath it that a reference may mean, without looking at the disk."""
    path = _path_of(uri)
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if not parts or path.endswith(("/", "/.")) or not all(map(is_component, parts)):
        raise _forbidden("it is not a plain path to a file")
    if not path.startswith("/"):
        return [(root, parts) for root in roots]
    beneath = []
    for root in roots:
        above = root.parts[1:]  # without the leading slash
        if len(parts) > len(above) and parts[: len(above)] == above:
            beneath.append((root, parts[len(above) :]))
    return beneath


def _path_of(uri: str) -> str:
    """Return the path that is written in a reference."""
    if not 0 < len(uri) <= _MAX_CHARS:
        raise _forbidden(f"{len(uri)} characters can't be a path")
    if any(ord(char) < 32 or char == "\x7f" for char in uri):
        raise _forbidden("it has control characters")
    if uri.startswith("//"):
        raise _forbidden("it names a host")
    local = _FILE.match(uri)
    if local is None:
        if _SCHEME.match(uri):
            raise _forbidden(f"the scheme {uri.split(':', 1)[0][:32]!r} is not allowed")
        return _encodable(uri)
    escaped = uri[local.end() :]
    if re.search(r"[?#\\]", escaped) or re.search(r"%(?![0-9A-Fa-f]{2})", escaped):
        raise _forbidden("it is not the URI of a file")
    if re.search(r"%(2[fF]|00)", escaped):
        raise _forbidden("it has an escaped slash or NUL")  # decoded they would mean another path
    try:
        path = unquote_to_bytes(escaped).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _forbidden("its escapes are not UTF-8") from error
    if any(ord(char) < 32 or char == "\x7f" for char in path):
        raise _forbidden("it has control characters")
    return path


def _encodable(path: str) -> str:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _forbidden("it is not Unicode") from error
    return path


def _forbidden(detail: str) -> Poison:
    return Poison(Reason.FORBIDDEN_PATH, f"the reference is refused: {detail}", origin="source")
