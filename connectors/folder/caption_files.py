"""The ``.jsonl`` and ``.vtt`` of one clip, both valid after every write; whole lines of the first are the position."""

import hashlib
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from connectors.contract import Caption, ClipPosition, Progress
from connectors.files.appended import Addition, overwrite, overwrite_all, read_in, size_in
from connectors.files.durable import rename_to_free_name, write_whole
from connectors.files.openat import open_folder
from connectors.folder.names import rename_stranger
from connectors.messages import webvtt
from connectors.messages.caption_lines import parse_lines
from connectors.messages.codec import caption_to_json, rejection_to_json

log = logging.getLogger(__name__)

_LINE_HEAD = b'{"schema_version":1,"type":"captiond.'
MOST_BEFORE = 16  # windows whose captions are read back for the questions about the next one


@dataclass(frozen=True, slots=True)
class Recorded:
    """The content of a clip's files: windows up to ``next_window``, in the first ``caption_bytes`` of the lines."""

    stem: str
    clip_id: str
    plan_hash: str | None = None
    next_window: int = 0
    caption_bytes: int = 0
    jsonl_bytes: int = 0  # with the rejection that may follow the captions
    vtt_bytes: int = 0
    before: Sequence[Caption] = ()  # those of the last windows


class CaptionFiles:
    """The files of the clips called ``name`` in the folder ``parts`` beneath ``root``.

    The newest clip of a name has the plain file names; files of an earlier clip (another clip_id) are set aside under
    a name with its id's digest. All calls block; they may come from any thread.
    """

    def __init__(self, root: Path, parts: Sequence[str], name: str, shown: webvtt.Shown = webvtt.PLAIN) -> None:
        self._root, self._parts, self._name, self._lock = root, parts, name, threading.Lock()
        self._shown = shown
        self._recorded: Recorded | None = None

    def position(self, clip_id: str) -> ClipPosition:
        """Return the first window that is not durable and the plan it belongs to, with both files recovered."""
        with self._lock:
            try:
                folder = open_folder(self._root, self._parts)
            except FileNotFoundError:
                return ClipPosition()
            try:
                held = self._recorded = self._find(folder, clip_id, contiguous=True)
                self._recorded = replace(held, before=())  # what is durable is told once, at the start
                return ClipPosition(held.next_window, held.plan_hash, before=held.before)
            finally:
                os.close(folder)

    def write(self, progress: Progress) -> None:
        """Record a progress; windows that are recorded already are not recorded again.

        1. The lines are appended to the ``.jsonl`` and synced; a write that fails is cut off again.
        2. The cues are appended to the ``.vtt``; it is synced with the clip's last progress, as until then recovery
           would make it anew. The folder of new files is synced once.
        Where the files hold another plan both are replaced, in the same order.
        """
        clip_id = progress.delivery.clip.clip_id
        with self._lock:
            folder = open_folder(self._root, self._parts, create=True)
            try:
                held = self._held(folder, clip_id)
                self._recorded = None  # until this write is done
                lines = _lines(progress, progress.captions)
                if lines and held.plan_hash not in (None, progress.plan_hash):
                    write_whole(folder, held.stem + ".jsonl", lines)
                    found = self._load(folder, held.stem, clip_id, contiguous=False, ours=True)
                    held = found or Recorded(held.stem, clip_id)
                held = self._append(folder, held, progress)
                self._recorded = held
            finally:
                os.close(folder)

    def _held(self, folder: int, clip_id: str) -> Recorded:
        """Return what the files hold of this clip, from memory while nothing else touched them."""
        held = self._recorded
        if held is not None and held.clip_id == clip_id:
            sizes = size_in(folder, held.stem + ".jsonl"), size_in(folder, held.stem + ".vtt")
            if sizes == (held.jsonl_bytes, held.vtt_bytes):
                return held
        held = self._find(folder, clip_id, contiguous=False)
        if held.jsonl_bytes:
            return held
        try:
            self._set_aside(folder)
        except PermissionError as error:  # what lies there is another user's, who lets nobody rename it
            log.warning("%s.jsonl or .vtt can't be renamed: %s.", self._name, error.strerror)
            held = Recorded(self._aside(clip_id), clip_id)
        return held

    def _append(self, folder: int, held: Recorded, progress: Progress) -> Recorded:
        new = [caption for caption in progress.captions if caption.window.index >= held.next_window]
        lines = _lines(progress, new)
        if not lines and not progress.last:
            return held
        if new and new[0].window.index > held.next_window:
            lost = f"windows {held.next_window} to {new[0].window.index - 1}"
            log.warning("%s.jsonl misses %s.", held.stem, lost, extra={"clip_id": held.clip_id})
        cues = (("" if held.vtt_bytes else webvtt.HEADER) + "".join(map(webvtt.block, self._shown.of(new)))).encode()
        overwrite_all(
            folder,
            Addition(held.stem + ".jsonl", held.caption_bytes, lines, sync=True),  # 1
            Addition(held.stem + ".vtt", held.vtt_bytes, cues, sync=progress.last),  # 2
        )
        jsonl_bytes = held.caption_bytes + len(lines)
        return replace(
            held,
            plan_hash=progress.plan_hash,
            next_window=new[-1].window.index + 1 if new else held.next_window,
            caption_bytes=jsonl_bytes - len(_rejection_line(progress)),
            jsonl_bytes=jsonl_bytes,
            vtt_bytes=held.vtt_bytes + len(cues),
        )

    def _find(self, folder: int, clip_id: str, *, contiguous: bool) -> Recorded:
        for stem in (self._name, self._aside(clip_id)):
            recorded = self._load(folder, stem, clip_id, contiguous=contiguous)
            if recorded is not None:
                return recorded
        return Recorded(self._name, clip_id)

    def _load(self, folder: int, stem: str, clip_id: str, *, contiguous: bool, ours: bool = False) -> Recorded | None:
        """Return what the files of a stem hold of this clip; None where they hold nothing of it.

        1. Half a line, and what follows a line that can't be read, is cut off.
        2. The ``.vtt`` is made anew where it does not show the captions that are left. Where more than a half write
           sets it apart, and it is not known to be ours (``ours``), it gets another name first.
        """
        data = read_in(folder, stem + ".jsonl")
        lines = parse_lines(data)
        if lines.owner != clip_id:
            return None
        lines = lines.without_parts(self._shown.questions)
        if contiguous:
            lines = lines.without_holes()
        if lines.whole_bytes < len(data):
            log.warning("Cut %d bytes of an unfinished write off %s.jsonl.", len(data) - lines.whole_bytes, stem)
            overwrite(folder, stem + ".jsonl", lines.whole_bytes, b"", sync=True)  # 1
        captions = lines.captions
        shown = webvtt.document(self._shown.of(captions)).encode()
        track = read_in(folder, stem + ".vtt")
        if track != shown:
            if not (shown.startswith(track) or track.startswith(shown) or ours):
                rename_stranger(folder, stem + ".vtt")
            write_whole(folder, stem + ".vtt", shown)  # 2
        plan_hash = captions[-1].plan_hash if captions else None
        next_window = captions[-1].window.index + 1 if captions else 0
        sizes = lines.caption_bytes, lines.whole_bytes, len(shown)
        before = [one for one in captions if one.window.index >= next_window - MOST_BEFORE]
        return Recorded(stem, clip_id, plan_hash, next_window, *sizes, before)

    def _aside(self, clip_id: str) -> str:
        return f"{self._name}.{hashlib.sha256(clip_id.encode()).hexdigest()[:12]}"

    def _set_aside(self, folder: int) -> None:
        """Rename what has the names of this clip's files: nothing is lost of an earlier clip's, nor of anybody's."""
        data, track = read_in(folder, self._name + ".jsonl"), read_in(folder, self._name + ".vtt")
        owner = parse_lines(data).owner
        if owner is None:
            if not webvtt.HEADER.encode().startswith(track):
                rename_stranger(folder, self._name + ".vtt")
            if data and not _is_half_line(data):
                rename_stranger(folder, self._name + ".jsonl")
            return
        for suffix in (".vtt", ".jsonl"):  # the lines last: until they are renamed this is done again
            try:
                rename_to_free_name(folder, self._name + suffix, folder, self._aside(owner) + suffix)
            except FileNotFoundError:
                continue
            except FileExistsError:
                rename_stranger(folder, self._name + suffix)
        os.fsync(folder)
        log.info("Captions of an earlier %s are kept as %s.jsonl.", self._name, self._aside(owner))


def _is_half_line(data: bytes) -> bool:
    """Whether this is what a crash leaves of the first line."""
    return b"\n" not in data and (data.startswith(_LINE_HEAD) or _LINE_HEAD.startswith(data))


def _lines(progress: Progress, captions: Sequence[Caption]) -> bytes:
    name = progress.delivery.clip.media.name
    return b"".join(caption_to_json(caption, name) + b"\n" for caption in captions) + _rejection_line(progress)


def _rejection_line(progress: Progress) -> bytes:
    if progress.rejection is None:
        return b""
    return rejection_to_json(progress.rejection, progress.delivery.clip.media.name, progress.next_window) + b"\n"
