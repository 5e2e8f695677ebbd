"""The real daemon in a process of its own, over a real broker."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testing.repository import ROOT


@dataclass
class Daemon:
    """A configuration and the daemon over it. ``sources`` are YAML by name; ``more`` is added as it is."""

    folder: Path
    sources: dict[str, str]
    sink: str
    more: str = ""
    delivery: str = "at_least_once"
    engine: str = "{kind: fake}"
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "daemon.log"
        sources = "".join(f"  {name}: {yaml}\n" for name, yaml in self.sources.items())
        (self.folder / "captiond.yaml").write_text(
            f"sources:\n{sources}sink: {self.sink}\nengine: {self.engine}\ndelivery: {self.delivery}\n"
            f"windows: {{window_s: 1.0}}\nframes: {{num_frames: 2}}\n{self.more}"
            + ("" if "http:" in self.more else "http: null\n")
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "daemon", *arguments, "-c", str(self.folder / "captiond.yaml")]

    def once(self, command: str = "run", *, timeout_s: float = 120.0) -> "subprocess.CompletedProcess[str]":
        """Run ``captiond check``, or ``captiond run --once``, to its end."""
        arguments = ["run", "--once"] if command == "run" else [command]
        return self.run(*arguments, timeout_s=timeout_s)

    def run(self, *arguments: str, timeout_s: float = 120.0) -> "subprocess.CompletedProcess[str]":
        """Run a command over the configuration to its end."""
        return subprocess.run(
            self.command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        """Let the daemon run; it is stopped cleanly at the end, and says so by its exit code."""
        with self.log.open("wb") as out:
            process = subprocess.Popen(self.command("run"), cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, self.log.read_text()[-2000:]
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def metric(self, name: str) -> float:
        """Return a metric of the daemon that runs, whose ``more`` has a port for it."""
        (url,) = re.findall(r"Status: (http://\S+)", self.log.read_text())
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:  # noqa: S310 - of the daemon itself
            lines = answer.read().decode().splitlines()
        return float(next((line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")), "nan"))

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait for something that the daemon brings about."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, self.log.read_text()[-3000:]
            time.sleep(0.1)


def kafka_source(bootstrap: str, topic: str, more: str = "") -> str:
    """Return the YAML of a source over one topic, in a group of the same name."""
    return f"{{kind: kafka, bootstrap_servers: '{bootstrap}', topics: [{topic}], group_id: {topic}{more}}}"


def kafka_sink(bootstrap: str, topic: str, more: str = "") -> str:
    """Return the YAML of a sink."""
    return (
        f"{{kind: kafka, bootstrap_servers: '{bootstrap}', topic: {topic}, dead_letter_topic: {topic}.rejected{more}}}"
    )


def memory_files(pid: int) -> int:
    """Return how many bytes a process keeps in memory files that are clips, however often it has each open."""
    sizes = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(link).startswith("/memfd:clip"):
                sizes[link.stat().st_ino] = link.stat().st_size
        except OSError:
            continue  # it was closed meanwhile
    return sum(sizes.values())
