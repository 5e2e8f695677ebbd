"""What a folder source remembers of a clip that is not finished: its position, and whether it is a suspect."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from connectors.files.durable import write_whole
from connectors.files.openat import open_folder

_PLACE = ("work", ".positions")


@dataclass(frozen=True, slots=True)
class Note:
    """The position of a clip and its suspicion; see :class:`connectors.contract.Delivery`."""

    next_window: int = 0
    plan_hash: str | None = None
    suspicion: int = 0


class FolderNotes:
    """One small file a clip, ``work/.positions/<clip_id>.json``: whoever claims the clip next finds it there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def load(self, clip_id: str) -> Note:
        """Return what is known of a clip; what can't be read counts as nothing."""
        try:
            kept = json.loads(self._path(clip_id).read_bytes())
            plan_hash = kept["plan_hash"]
            return Note(int(kept["next_window"]), None if plan_hash is None else str(plan_hash), int(kept["suspicion"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Note()

    def save(self, clip_id: str, note: Note) -> None:
        """Make a note durable."""
        folder = open_folder(self._root, _PLACE, create=True)
        try:
            write_whole(folder, f"{clip_id}.json", json.dumps(asdict(note)).encode())
        finally:
            os.close(folder)

    def remove(self, clip_id: str) -> None:
        """Forget a clip. Idempotent."""
        self._path(clip_id).unlink(missing_ok=True)

    def _path(self, clip_id: str) -> Path:
        return self._root.joinpath(*_PLACE, f"{clip_id}.json")
