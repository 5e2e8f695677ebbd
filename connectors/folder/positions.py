"""Positions of a folder's unfinished clips, in small files beside the claimed clips."""

import json
import os
from pathlib import Path

from connectors.contract import ClipPosition, Quarantine
from connectors.files.durable import write_whole
from connectors.files.openat import open_folder

_PLACE = ("work", ".positions")


class FolderPositions:
    """One small file a clip, ``work/.positions/<clip_id>.json``: whoever claims the clip next finds it there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def load(self, clip_id: str) -> ClipPosition:
        """Return what is known of a clip; what can't be read counts as nothing."""
        try:
            kept = json.loads(self._path(clip_id).read_bytes())
            plan_hash = None if kept["plan_hash"] is None else str(kept["plan_hash"])
            return ClipPosition(int(kept["next_window"]), plan_hash, Quarantine.after(int(kept["suspicion"])))
        except (OSError, ValueError, KeyError, TypeError):
            return ClipPosition()

    def save(self, clip_id: str, position: ClipPosition) -> None:
        """Make a position durable."""
        kept = {"next_window": position.next_window, "plan_hash": position.plan_hash, "suspicion": position.quarantine}
        folder = open_folder(self._root, _PLACE, create=True)
        try:
            write_whole(folder, f"{clip_id}.json", json.dumps(kept).encode())
        finally:
            os.close(folder)

    def remove(self, clip_id: str) -> None:
        """Forget a clip. Idempotent."""
        self._path(clip_id).unlink(missing_ok=True)

    def _path(self, clip_id: str) -> Path:
        return self._root.joinpath(*_PLACE, f"{clip_id}.json")
