"""Positions of a folder's unfinished clips, in small files beside the claimed clips."""

import errno
import json
import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

from connectors.contract import ClipPosition, Quarantine
from connectors.files.durable import rename_to_free_name, write_whole
from connectors.files.openat import open_file, open_folder
from connectors.folder.listing import exists

log = logging.getLogger(__name__)

_PLACE = ("work", ".positions")
_MAX_BYTES = 4096  # a position has some hundred
_IN_THE_WAY = {errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST}


class FolderPositions:
    """One small file a clip, ``work/.positions/<clip_id>.json``: whoever claims the clip next finds it there.

    Whoever may write into the watched folder may put other things there: they are not read, and are moved aside.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def load(self, clip_id: str) -> ClipPosition:
        """Return what is known of a clip; what can't be read counts as nothing."""
        if not self._is_kept(clip_id):
            return ClipPosition()
        try:
            kept = json.loads(self._read(clip_id))
            plan_hash = None if kept["plan_hash"] is None else str(kept["plan_hash"])
            return ClipPosition(int(kept["next_window"]), plan_hash, Quarantine.after(int(kept["suspicion"])))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return ClipPosition()

    def _is_kept(self, clip_id: str) -> bool:
        """Whether something has the place of a clip's position: of most clips nothing is kept."""
        return exists(self._root, (*_PLACE, _name(clip_id)))

    def _read(self, clip_id: str) -> bytes:
        descriptor, _ = open_file(self._root, (*_PLACE, _name(clip_id)))
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MAX_BYTES)

    def save(self, clip_id: str, position: ClipPosition) -> None:
        """Make a position durable."""
        kept = {"next_window": position.next_window, "plan_hash": position.plan_hash, "suspicion": position.quarantine}
        data = json.dumps(kept).encode()
        try:
            self._write(_name(clip_id), data)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            self._clear_the_way(_name(clip_id))
            self._write(_name(clip_id), data)

    def _write(self, name: str, data: bytes) -> None:
        folder = open_folder(self._root, _PLACE, create=True)
        try:
            write_whole(folder, name, data)
        finally:
            os.close(folder)

    def _clear_the_way(self, name: str) -> None:
        """Rename what is no folder of positions, or no file in it."""
        with suppress(OSError):
            _set_aside(self._root, _PLACE, name)
            return
        _set_aside(self._root, _PLACE[:-1], _PLACE[-1])

    def remove(self, clip_id: str) -> None:
        """Forget a clip. Idempotent; what is no position of ours stays, for it is not read either."""
        if not self._is_kept(clip_id):
            return
        try:
            folder = open_folder(self._root, _PLACE)
        except OSError:
            return
        try:
            os.unlink(_name(clip_id), dir_fd=folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.debug("The position of %s stays: %s.", clip_id, error.strerror)
        finally:
            os.close(folder)


def _name(clip_id: str) -> str:
    return f"{clip_id}.json"


def _set_aside(root: Path, above: tuple[str, ...], name: str) -> None:
    folder = open_folder(root, above)
    try:
        rename_to_free_name(folder, name, folder, f".{name.strip('.')}.{secrets.token_hex(4)}")
        log.warning("%s was in the way of a position and has another name now.", "/".join((*above, name)))
    finally:
        os.close(folder)
