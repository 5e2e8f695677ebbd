"""A real daemon, folder to folder, in a process of its own."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testing.repository import ROOT


@dataclass
class FolderJob:
    """A folder with an inbox, a configuration and the captions that come out."""

    folder: Path
    engine: str = "{kind: fake}"
    more: str = "windows: {window_s: 1.0}\nframes: {num_frames: 2}\n"
    timeout_s: float = 120.0
    listen: str | None = None
    more_sources: str = ""  # YAML beside the inbox

    def __post_init__(self) -> None:
        self.inbox.mkdir(parents=True, exist_ok=True)

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def done(self) -> Path:
        return self.inbox / "done"

    @property
    def failed(self) -> Path:
        return self.inbox / "failed"

    @property
    def captions(self) -> Path:
        return self.folder / "captions" / "inbox"

    def config(self) -> Path:
        """Write the configuration and return it."""
        path = self.folder / "captiond.yaml"
        path.write_text(
            "sources:\n  inbox: {kind: folder, path: inbox, settle_s: 0.1, scan_s: 1.0}\n"
            f"{self.more_sources}"
            f"sink: {{kind: folder, path: captions}}\nengine: {self.engine}\n{self.more}"
            f"http: {f'{{listen: {self.listen!r}}}' if self.listen else 'null'}\nlog: {{level: info}}\n"
        )
        return path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "daemon", *arguments, "-c", str(self.config())]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the daemon and let it run."""
        return subprocess.Popen(
            self.command("run", *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run_once(self, *, expect: int = 0) -> str:
        """Let the daemon take what is there; return what it logged."""
        process = subprocess.run(
            self.command("run", "--once"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.timeout_s,
            check=False,
        )
        assert process.returncode == expect, process.stdout
        return process.stdout

    def messages(self, name: str) -> list[dict[str, Any]]:
        """Return what was written for a clip."""
        return [json.loads(line) for line in (self.captions / f"{name}.jsonl").read_text().splitlines()]

    def reason(self, name: str) -> dict[str, Any]:
        """Return why a clip is in failed/."""
        found: dict[str, Any] = json.loads((self.failed / f"{name}.reason.json").read_text())
        return found
