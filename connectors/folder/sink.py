"""Captions to files: for each clip ``<path>/<source>/<path of the clip>.jsonl`` and ``.vtt``."""

import errno
import hashlib
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from connectors.contract import Clip, ClipPosition, Progress, Reporting
from connectors.files.durable import DiskPatience
from connectors.files.openat import is_component
from connectors.folder.caption_files import CaptionFiles
from connectors.folder.settings import FolderSinkSettings
from connectors.messages.webvtt import Shown

log = logging.getLogger(__name__)

_LONGEST_NAME_BYTES = 200  # of the 255 a file system takes: suffixes are added, one of them to a temporary file
_LONGEST_PATH_BYTES = 3_000  # of the 4,096 that the system takes, with room for the sink's own
_DEEPEST = 128  # folders in folders; each that is made is synced
_NAME_CLASH = {errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
_NAME_CLASH |= {errno.EACCES, errno.EPERM}  # another user's file or folder

Name = tuple[str, ...]
T = TypeVar("T")


class FolderSink(Reporting):
    """Writes each clip's captions as they come; a full or missing disk is waited for."""

    def __init__(self, settings: FolderSinkSettings) -> None:
        self._path = settings.path
        self._shown = Shown(settings.questions, settings.vtt_prompt)
        self._open: dict[Name, CaptionFiles] = {}
        self._patience = DiskPatience()

    @property
    def waiting_for(self) -> str:
        return self._patience.waiting_for

    async def position(self, clip: Clip) -> ClipPosition:
        where = partial(self._position, clip)
        return await self._patience.run(where, "Looking for earlier captions", clip_id=clip.clip_id)

    async def write(self, progress: Progress) -> None:
        """Write the progress, in the order of effects of :meth:`CaptionFiles.write`."""
        clip = progress.delivery.clip
        write = partial(self._with_files, clip, lambda files: files.write(progress))
        await self._patience.run(write, "Writing captions", clip_id=clip.clip_id)
        if progress.last:
            for name in (name_beneath(clip), _other_name(clip)):
                self._open.pop(name, None)

    async def close(self) -> None:
        return  # nothing is kept open between two writes

    def _position(self, clip: Clip) -> ClipPosition:
        found = self._with_files(clip, lambda files: files.position(clip.clip_id))
        if found != ClipPosition():
            return found
        source, name = _other_name(clip)  # where a clash sent them, which only a write may meet
        return CaptionFiles(self._path, (source,), name, self._shown).position(clip.clip_id)

    def _with_files(self, clip: Clip, work: Callable[[CaptionFiles], T]) -> T:
        """Run ``work`` on the clip's files; where their names clash with a folder or file, on files of another name."""
        name = name_beneath(clip)
        try:
            return work(self._files(name))
        except OSError as error:
            if error.errno not in _NAME_CLASH:
                raise
            log.warning(
                "%s can't have captions of its name: %s.", name[-1], error.strerror, extra={"clip_id": clip.clip_id}
            )
            return work(self._files(_other_name(clip)))

    def _files(self, name: Name) -> CaptionFiles:
        return self._open.setdefault(name, CaptionFiles(self._path, name[:-1], name[-1], self._shown))


def name_beneath(clip: Clip) -> Name:
    """Return where a clip's captions go beneath the sink: never outside of it, whatever the clip is called.

    A name that would make a path that readers can't open stands there as its digest.
    """
    parts = [part for part in clip.media.name.split("/") if part not in ("", ".")] or [clip.clip_id]
    if len(parts) > _DEEPEST or len(os.fsencode(clip.media.name)) > _LONGEST_PATH_BYTES:
        parts = [_digest(tuple(parts))]
    return tuple(map(component, (clip.source, *parts)))


def _other_name(clip: Clip) -> Name:
    """Return where they go when something else has the names."""
    name = name_beneath(clip)
    return name[0], _digest(name)


def component(part: str) -> str:
    """Return a part of a path that any file system takes; where it is none, its digest."""
    if is_component(part) and len(os.fsencode(part)) <= _LONGEST_NAME_BYTES:
        return part
    return _digest((part,))


def _digest(name: Name) -> str:
    return "_" + hashlib.sha256("/".join(name).encode("utf-8", "surrogateescape")).hexdigest()[:32]
