"""A daemon with live streams, in a process of its own, and the messages that come out."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from testing.ports import free_port
from testing.repository import ROOT

_PATIENCE_S = 180.0  # for what takes a second or two on a machine with nothing else to do

T = TypeVar("T")


def until(what: Callable[[], T], within_s: float = _PATIENCE_S) -> T:
    """Return what something becomes, once that is true."""
    end_s = time.monotonic() + within_s
    while not (found := what()):
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        time.sleep(0.1)
    return found


@dataclass
class StreamJob:
    """A folder with a configuration of streams: ``sources`` are their keys by name, in YAML's flow style."""

    folder: Path
    sources: dict[str, str]
    window_s: float = 2.0
    engine: str = "{kind: fake}"
    frames: str = "{num_frames: 4}"
    more: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.listen = f"127.0.0.1:{free_port()}"
        self.log = self.folder / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    def config(self) -> Path:
        """Write the configuration and return it."""
        path = self.folder / "captiond.yaml"
        sources = "".join(f"  {name}: {{kind: stream, {keys}}}\n" for name, keys in self.sources.items())
        path.write_text(
            f"sources:\n{sources}sink: {{kind: folder, path: captions}}\nengine: {self.engine}\n"
            f"windows: {{window_s: {self.window_s}}}\nframes: {self.frames}\nstate_dir: state\n"
            f"http: {{listen: '{self.listen}'}}\nlog: {{level: info}}\nlimits: {{decoders: 1}}\n{self.more}"
        )
        return path

    def start(self) -> None:
        """Start the daemon and wait until it is alive."""
        command = [sys.executable, "-m", "testing.cameras.reading_daemon", "run", "-c", str(self.config())]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        until(lambda: self.get("/livez") or self._ended())

    def _ended(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return False

    def get(self, path: str) -> httpx.Response | None:
        """Ask the daemon for a page; None where it does not answer."""
        try:
            return httpx.get(f"http://{self.listen}{path}", timeout=10.0, trust_env=False)
        except httpx.HTTPError:
            return None

    def stop(self) -> int:
        """Stop the daemon as a service manager does, and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(_PATIENCE_S)

    def kill(self) -> None:
        """End it and its recorders as SIGKILL does, as a service manager sends it to all of a service."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def messages(self, name: str) -> list[dict[str, Any]]:
        """Return a stream's messages in their order; half a line, which is being written, is none."""
        return list(self._messages(name))

    def _messages(self, name: str) -> Iterator[dict[str, Any]]:
        for path in sorted((self.folder / "captions" / name).glob("*/*.jsonl")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                yield json.loads(line)

    def until_described(self, name: str, count: int) -> list[dict[str, Any]]:
        """Wait until so many windows more than now have a caption, and return all messages."""
        wanted = count + len(described(self.messages(name)))
        return until(lambda: self._ended() or (len(described(found := self.messages(name))) >= wanted and found))


def described(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in messages if one["status"] == "success"]


def assert_no_holes(messages: list[dict[str, Any]]) -> None:
    """Hold that each window has one message, in order, and that each says when it was on the wall clock."""
    indices = [one["stream"]["index"] for one in messages]
    assert indices == list(range(indices[0], indices[0] + len(indices)))
    ends = [one["stream"]["wall_end"] for one in messages]
    assert [one["stream"]["wall_start"] for one in messages[1:]] == ends[:-1]
    assert len({one["caption_id"] for one in messages}) == len(messages)
