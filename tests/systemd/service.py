"""The installed service in a machine: its configuration, its clips, and what systemd says about it."""

import json
import os
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from testing.load import WINDOWS_EACH, write_load_clip
from testing.repository import ROOT
from tests.systemd.machine import Machine

STATE = ("ActiveState", "SubState", "Result", "NRestarts", "ExecMainStatus", "StatusText", "MainPID")
LIMIT_S = 60.0


@dataclass
class Service:
    """``captiond.service``, or ``captiond@NAME.service`` with its own folders and port."""

    machine: Machine
    scratch: Path
    name: str = ""
    limit_s: float = LIMIT_S
    journal_from: str = ""  # what was logged before is an earlier test's

    @property
    def unit(self) -> str:
        """What systemd calls it."""
        return f"captiond@{self.name}.service" if self.name else "captiond.service"

    @property
    def home(self) -> str:
        """Where its state is."""
        return f"/var/lib/captiond-{self.name}" if self.name else "/var/lib/captiond"

    def configure(self, *, engine: str = "{kind: fake, delay_ms: 20}", more: str = "") -> None:
        """Write its configuration."""
        self.machine.path(f"/etc/captiond/{self.name or 'captiond'}.yaml").write_text(
            f"sources:\n  inbox: {{kind: folder, path: {self.home}/inbox, settle_s: 0.1, scan_s: 1.0}}\n"
            f"sink: {{kind: folder, path: {self.home}/captions}}\n"
            "windows: {window_s: 1.0, stride_s: 1.0, min_tail_s: 0.5}\nframes: {num_frames: 2}\n"
            f"engine: {engine}\nhttp: {{listen: '127.0.0.1:{18500 + len(self.name)}'}}\n"
            f"log: {{format: journal}}\n{more}"
        )

    @property
    def user(self) -> str:
        """Whom the service runs as: an instance has a user of its own."""
        return f"captiond-{self.name}" if self.name else "captiond"

    def make_instance(self) -> None:
        """Make what an instance needs, as a person does, and give it a secret and an inbox."""
        user = self.user
        given = {**os.environ, "DESTDIR": str(self.machine.path("/"))}
        subprocess.run([ROOT / "scripts" / "install", "instance", self.name], env=given, check=True)
        self.machine.run("systemd-sysusers", f"{user}.conf")
        self.machine.path(f"/etc/captiond/credentials-{self.name}/of-{self.name}").write_text("hush\n")
        self.machine.run("install", "-d", f"--owner={user}", f"--group={user}", self.home, f"{self.home}/inbox")

    def drop_in(self, text: str) -> None:
        """Override the unit for this test."""
        folder = self.machine.path(f"/run/systemd/system/{self.unit}.d")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "test.conf").write_text(text)
        self.machine.run("systemctl", "daemon-reload")

    def clear(self) -> None:
        """Empty its folders and undo its drop-in."""
        shutil.rmtree(self.machine.path(f"/run/systemd/system/{self.unit}.d"), ignore_errors=True)
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("rm", "-rf", self.home)
        self.machine.run("systemd-tmpfiles", "--create", "captiond.conf")
        self.begin()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.machine.run("systemctl", "start", self.unit)

    def state(self) -> dict[str, str]:
        """Return what systemd reports."""
        return self.machine.show(self.unit, *STATE)

    def wait_for(self, **expected: str) -> dict[str, str]:
        """Wait until systemd reports these properties."""
        deadline_s = time.monotonic() + self.limit_s
        state = self.state()
        while any(not state[key].startswith(value) for key, value in expected.items()):
            if time.monotonic() > deadline_s:
                raise AssertionError(f"still {state}, not {expected}\n{self.journal()[-4000:]}")
            time.sleep(0.2)
            state = self.state()
        return state

    def put(self, count: int, first: int = 0) -> list[str]:
        """Put clips into the inbox, each of six windows, by rename; return their names."""
        clip = self.scratch / "clip.mp4"
        if not clip.exists():
            write_load_clip(clip)
        names = [f"c{number:03d}.mp4" for number in range(first, first + count)]
        inbox = self.machine.path(f"{self.home}/inbox")
        for name in names:
            shutil.copy(clip, inbox / f"{name}.part")
            (inbox / f"{name}.part").chmod(0o644)
            (inbox / f"{name}.part").rename(inbox / name)
        return names

    def captions(self, name: str) -> list[dict[str, object]]:
        """Return what is written for a clip."""
        path = self.machine.path(f"{self.home}/captions/inbox/{name}.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def written(self) -> int:
        """Return how many captions there are."""
        folder = self.machine.path(f"{self.home}/captions/inbox")
        return sum(file.read_bytes().count(b"\n") for file in folder.glob("*.jsonl")) if folder.is_dir() else 0

    def wait_written(self, at_least: int) -> None:
        """Wait until so many captions are there."""
        deadline_s = time.monotonic() + self.limit_s
        while self.written() < at_least:
            if time.monotonic() > deadline_s:
                log = self.journal()[-4000:]
                raise AssertionError(f"{self.written()} of {at_least} captions; {self.state()}\n{log}")
            time.sleep(0.05)

    def entries(self) -> list[dict[str, object]]:
        """Return its entries of the journal, with all fields."""
        said = self.machine.journal(self.unit, self.journal_from, "json")
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def journal(self) -> str:
        """Return what it has logged since the test began."""
        return self.machine.journal(self.unit, self.journal_from)

    def begin(self) -> None:
        """Forget what was logged so far."""
        self.journal_from = self.machine.journal_end()

    def wait_done(self, names: list[str]) -> None:
        """Wait until every clip is in done/, then check that each of its windows is captioned exactly once.

        The limit is for one clip after another: how fast a whole load goes is the machine's.
        """
        done, captioned = self.machine.path(f"{self.home}/inbox/done"), -1
        deadline_s = time.monotonic() + self.limit_s
        while missing := [name for name in names if not (done / name).exists()]:
            if (now := len(list(done.glob("*")))) != captioned:
                captioned, deadline_s = now, time.monotonic() + self.limit_s
            if time.monotonic() > deadline_s:
                raise AssertionError(f"not done: {missing}\n{self.journal()[-4000:]}")
            time.sleep(0.1)
        for name in names:
            indices = Counter(message["window"]["index"] for message in self.captions(name))  # type: ignore[index]
            assert indices == Counter(range(WINDOWS_EACH)), f"{name}: {indices}"
