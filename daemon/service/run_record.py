"""The record of earlier runs: how each ended, and how often the daemon was started since it was started by hand.

The record is a small file in the service manager's runtime directory, which is kept between its own restarts and
removed when the service is stopped. So the counts are those of `systemctl show -p NRestarts`, with the reasons.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from connectors.errors import ExitCode

_RUNNING = "killed"  # what a record says while the daemon runs is how it ended if nobody writes again


class RunRecord:
    """The record of one instance; without a runtime directory nothing is kept."""

    def __init__(self, folder: Path | None = None) -> None:
        given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        folder = folder or (Path(given) if given else None)
        self._file = folder / "runs.json" if folder is not None else None
        self.restarts: dict[str, int] = {}  # how earlier runs ended -> how often

    def begin(self) -> dict[str, int]:
        """Count the run before, note that one runs, and return the counts."""
        if self._file is None:
            return {}
        try:
            found = json.loads(self._file.read_text())
            self.restarts = {str(how): int(times) for how, times in found["restarts"].items()}
            last = str(found["last"])
            self.restarts[last] = self.restarts.get(last, 0) + 1
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.restarts = {}
        self._write(_RUNNING)
        return self.restarts

    def end(self, code: ExitCode) -> None:
        """Note how this run ends."""
        self._write(code.name.lower())

    def _write(self, last: str) -> None:
        if self._file is None:
            return
        with suppress(OSError):  # a count is no reason to stop captioning
            self._file.write_text(json.dumps({"last": last, "restarts": self.restarts}))
