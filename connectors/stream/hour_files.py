"""The files of a stream's captions: ``<source>/<YYYY-MM-DD>/<HH>.jsonl`` and ``.vtt``, an hour of UTC each.

Both are valid after every write, and whole lines of the first are the position: each window is there exactly once.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from connectors.contract import Caption, Progress, Reporting
from connectors.files.appended import Addition, overwrite, overwrite_all, read_in, size_in
from connectors.files.durable import DiskPatience, write_whole
from connectors.files.openat import open_folder
from connectors.folder.names import rename_stranger
from connectors.folder.sink import component
from connectors.messages import webvtt
from connectors.messages.codec import caption_from_json, caption_to_json
from connectors.messages.webvtt import HOUR_NS
from connectors.stream.grid import Grid

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Hour:
    """What the files of an hour hold: windows up to the one that begins at ``last_ns``."""

    begins_ns: int
    last_ns: int = -1
    jsonl_bytes: int = 0
    vtt_bytes: int = 0


@dataclass(slots=True)
class _Lines:
    captions: list[Caption] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # the byte after each caption's line

    @property
    def whole_bytes(self) -> int:
        return self.ends[-1] if self.ends else 0


class HourFiles(Reporting):
    """A :class:`connectors.contract.Sink` for one stream, beneath ``root``. A full or missing disk is waited for."""

    def __init__(self, root: Path, source: str, shown: webvtt.Shown = webvtt.PLAIN) -> None:
        self._root, self._source, self._shown = root, source, shown
        self._patience = DiskPatience()
        self._hour: _Hour | None = None

    @property
    def waiting_for(self) -> str:
        return self._patience.waiting_for

    async def next_index(self, grid: Grid, index: int) -> int:
        """Return the first window, from ``index`` on, that is not durable; the files are recovered."""
        looking = f"Looking for the last caption of {self._source}"
        return await self._patience.run(lambda: self._next_index(grid, index), looking)

    async def write(self, progress: Progress) -> None:
        """Append a window's captions, unless they are there.

        1. The lines are appended to the ``.jsonl`` and synced; a write that fails is cut off again.
        2. The cue is appended to the ``.vtt``; it is synced when the next hour begins, as until then recovery would
           make it anew.
        """
        await self._patience.run(lambda: self._write(progress), f"Writing captions of {self._source}")

    async def close(self) -> None:
        return  # nothing is kept open between two writes

    def _next_index(self, grid: Grid, index: int) -> int:
        if index > 0:  # a crash at the hour's end may have left the track of the hour before it without its last cue
            self._load(_hour_of(grid.span(index - 1)[0]))
        while (held := self._load(_hour_of(grid.span(index)[0]))).last_ns >= grid.span(index)[0]:
            index = grid.first_from(held.last_ns + 1)
        return index

    def _write(self, progress: Progress) -> None:
        stream = progress.delivery.clip.stream
        assert stream is not None  # noqa: S101 - the route has no other clips
        begins_ns = _hour_of(stream.start_ns)
        folder, name = self._open(begins_ns, create=True)
        try:
            hour, self._hour = self._held(folder, name, begins_ns), None  # until this write is done
            if stream.start_ns > hour.last_ns:
                clip_name = progress.delivery.clip.media.name
                lines = b"".join(caption_to_json(caption, clip_name) + b"\n" for caption in progress.captions)
                cues = "".join(map(webvtt.block, self._shown.of(progress.captions)))
                track = (("" if hour.vtt_bytes else webvtt.HEADER) + cues).encode()
                overwrite_all(
                    folder,
                    Addition(f"{name}.jsonl", hour.jsonl_bytes, lines, sync=True),  # 1
                    Addition(f"{name}.vtt", hour.vtt_bytes, track, sync=False),  # 2
                )
                sizes = hour.jsonl_bytes + len(lines), hour.vtt_bytes + len(track)
                hour = _Hour(begins_ns, stream.start_ns, *sizes)
            self._hour = hour
        finally:
            os.close(folder)

    def _held(self, folder: int, name: str, begins_ns: int) -> _Hour:
        """Return what the files of an hour hold, from memory while nothing else touched them."""
        held = self._hour
        if held is not None and held.begins_ns == begins_ns:
            if (size_in(folder, f"{name}.jsonl"), size_in(folder, f"{name}.vtt")) == (held.jsonl_bytes, held.vtt_bytes):
                return held
        elif held is not None:
            self._sync_track(held.begins_ns)
        return self._recovered(folder, name, begins_ns)

    def _sync_track(self, begins_ns: int) -> None:
        folder, name = self._open(begins_ns)
        try:
            overwrite(folder, f"{name}.vtt", size_in(folder, f"{name}.vtt"), b"", sync=True)
        finally:
            os.close(folder)

    def _load(self, begins_ns: int) -> _Hour:
        try:
            folder, name = self._open(begins_ns)
        except FileNotFoundError:
            return _Hour(begins_ns)
        try:
            self._hour = self._recovered(folder, name, begins_ns)
            return self._hour
        finally:
            os.close(folder)

    def _open(self, begins_ns: int, *, create: bool = False) -> tuple[int, str]:
        at = datetime.fromtimestamp(begins_ns // 10**9, UTC)
        parts = component(self._source), f"{at:%Y-%m-%d}"
        return open_folder(self._root, parts, create=create), f"{at:%H}"

    def _recovered(self, folder: int, name: str, begins_ns: int) -> _Hour:
        """Return what the files of an hour hold.

        1. Half a line, or a window with some of its answers, is cut off; a file that is not ours gets another name.
        2. The ``.vtt`` is made anew where it does not show the captions that are left.
        """
        data = read_in(folder, f"{name}.jsonl")
        if not data:
            return _Hour(begins_ns, vtt_bytes=self._remade(folder, name, ()))
        lines = self._whole(_parsed(data))
        rest = data[lines.whole_bytes :]
        if not lines.captions and b"\n" in rest:
            rename_stranger(folder, f"{name}.jsonl")
            return _Hour(begins_ns, vtt_bytes=self._remade(folder, name, ()))
        if rest:
            log.warning("Cut %d bytes of an unfinished write off %s.jsonl.", len(rest), name)
            overwrite(folder, f"{name}.jsonl", lines.whole_bytes, b"", sync=True)  # 1
        last = lines.captions[-1].stream if lines.captions else None
        last_ns = -1 if last is None else last.start_ns
        return _Hour(begins_ns, last_ns, lines.whole_bytes, self._remade(folder, name, lines.captions))

    def _remade(self, folder: int, name: str, captions: Sequence[Caption]) -> int:
        """Make the track anew where it shows something else; return its size."""
        shown = webvtt.document(self._shown.of(captions)).encode() if captions else b""
        track = read_in(folder, f"{name}.vtt")
        if track == shown:
            return len(shown)
        if not (shown.startswith(track) or track.startswith(shown or webvtt.HEADER.encode())):
            rename_stranger(folder, f"{name}.vtt")
        write_whole(folder, f"{name}.vtt", shown)  # 2
        return len(shown)

    def _whole(self, lines: _Lines) -> _Lines:
        """Return the lines without those of a last window that has no answer yet to some of its questions."""
        if not lines.captions or lines.captions[-1].prompt is None:
            return lines
        last = lines.captions[-1].clip_id
        first = next(at for at, caption in enumerate(lines.captions) if caption.clip_id == last)
        if len(lines.captions) - first >= len(self._shown.questions.names(self._source)):
            return lines
        return _Lines(lines.captions[:first], lines.ends[:first])


def _hour_of(start_ns: int) -> int:
    return start_ns - start_ns % HOUR_NS


def _parsed(data: bytes) -> _Lines:
    """Return what the lines hold, up to the first that is cut, can't be read or is no later window's."""
    lines, end = _Lines(), 0
    last_ns = -1
    while (line_end := data.find(b"\n", end) + 1) > 0:
        try:
            caption = caption_from_json(data[end:line_end])
        except ValueError:
            break
        if caption.stream is None or caption.stream.start_ns < last_ns:
            break
        last_ns = caption.stream.start_ns
        lines.captions.append(caption)
        lines.ends.append(line_end)
        end = line_end
    return lines
