"""Clips of watched folders that go through again: from ``done/`` or ``failed/`` back into the folder.

A clip that is put back has the id that it had, and its caption files say that it is finished: they are set aside, under
names that end in ``.old``, so that it is captioned anew and no line stands there twice.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from connectors.contract import clip_id_of
from connectors.files.durable import exists_in, move_beneath, rename_to_free_name
from connectors.files.openat import open_file, open_folder, stat_file
from connectors.folder.listing import exists, walk
from connectors.folder.names import names_like, reason_name
from connectors.redo.chosen import Chosen, Outcome, Parts
from connectors.redo.conditions import Condition, all_met

_LINES, _CUES, _ASIDE = ".jsonl", ".vtt", ".old"
_ENDS = ("done", "failed")
_MOST_OF_A_NAME = 1000  # clips that ended under names like one name


def chosen_clips(sink: Path, conditions: Sequence[Condition]) -> list[Chosen]:
    """Return the clips of which a message meets all conditions, in the order of their files.

    A file that was set aside counts until its clip is captioned anew, in a file of whatever name: one that came in a
    record again has a new name.
    """
    places = sorted(parts for parts, is_folder in walk(sink, ()) if not is_folder and _holds_lines(parts[-1]))
    chosen = [clip for lines in places if (clip := _chosen_in(sink, lines, conditions)) is not None]
    aside = {(clip.source, clip.clip_id) for clip in chosen if clip.lines[-1].endswith(_ASIDE)}
    anew = {_clip_of(sink, lines) for lines in places} if aside else set()
    return [clip for clip in chosen if not (clip.lines[-1].endswith(_ASIDE) and (clip.source, clip.clip_id) in anew)]


def _chosen_in(sink: Path, lines: Parts, conditions: Sequence[Condition]) -> Chosen | None:
    for message in _messages(sink, lines):
        if all_met(conditions, message):
            source, clip_id, name = (message.get(key) for key in ("source", "clip_id", "clip_name"))
            written_ms = stat_file(sink, lines).st_mtime_ns // 1_000_000
            return Chosen(str(source), str(clip_id), str(name or ""), lines, written_ms)
    return None


def _clip_of(sink: Path, lines: Parts) -> tuple[str, str] | None:
    """Return the clip that a file which was not set aside is about."""
    if lines[-1].endswith(_ASIDE):
        return None
    return next(((str(one.get("source")), str(one.get("clip_id"))) for one in _messages(sink, lines)), None)


def _holds_lines(name: str) -> bool:
    return name.removesuffix(_ASIDE).endswith(_LINES)


def _messages(sink: Path, lines: Parts) -> Iterator[dict[str, Any]]:
    """Yield the messages in a file; what is none of ours is passed over."""
    try:
        descriptor, _ = open_file(sink, lines)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as file:
        for line in file:
            with suppress(ValueError, RecursionError):
                message = json.loads(line)
                if isinstance(message, dict) and str(message.get("type", "")).startswith("captiond."):
                    yield message


def put_back(sink: Path | None, folder: Path, clip: Chosen) -> Outcome:
    """Send a clip of a watched folder through again; its messages lie in files of ``sink``, where that is a folder.

    1. Its caption files are set aside. A crash before 2 leaves it where it is, and the next call goes on from there.
    2. It is renamed back into the folder, where the daemon takes it like any other.
    3. The file that says why it was rejected is removed.
    """
    place = _place_of(folder, clip)
    if place is None:
        return Outcome(clip, "it is in neither done/ nor failed/, or another file has its name there")
    back = tuple(part for part in clip.name.split("/") if part not in ("", "."))
    if exists(folder, back):
        return Outcome(clip, "another file has its name in the folder")
    if sink is not None:
        set_aside(sink, clip.lines)  # 1
    try:
        move_beneath(folder, place, back, sync=True)  # 2
    except FileExistsError:
        return Outcome(clip, "another file has its name in the folder")
    with suppress(OSError):
        ended = open_folder(folder, place[:-1])
        try:
            os.unlink(reason_name(place[-1]), dir_fd=ended)  # 3
        finally:
            os.close(ended)
    return Outcome(clip)


def _place_of(folder: Path, clip: Chosen) -> Parts | None:
    """Return where a clip lies that has ended: the file whose name, size and time make its id."""
    parts = tuple(part for part in clip.name.split("/") if part not in ("", "."))
    if not parts:
        return None
    for end in _ENDS:
        for name, _ in zip(names_like(parts[-1]), range(_MOST_OF_A_NAME), strict=False):
            place = (end, *parts[:-1], name)
            try:
                status = stat_file(folder, place)
            except OSError:
                break
            if clip_id_of(clip.source, *parts, str(status.st_size), str(status.st_mtime_ns)) == clip.clip_id:
                return place
    return None


def set_aside(sink: Path, lines: Parts) -> None:
    """Rename a clip's caption files; those that are aside already stay."""
    if lines[-1].endswith(_ASIDE):
        return
    folder = open_folder(sink, lines[:-1])
    try:
        for name in (lines[-1], lines[-1].removesuffix(_LINES) + _CUES):
            if exists_in(folder, name):
                free = next(other for other in names_like(name + _ASIDE) if not exists_in(folder, other))
                rename_to_free_name(folder, name, folder, free)
        os.fsync(folder)
    finally:
        os.close(folder)
