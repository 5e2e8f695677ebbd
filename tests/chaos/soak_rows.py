"""A soak: clips come steadily, a fault strikes each minute, and the daemon is looked at all the while.

The first half's faults leave the program running, so that what it holds can be followed; the second half's end it, and
a loop in the service manager's place starts it again. Both print their figures.
"""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from testing.load import WINDOWS_EACH, write_config, write_load_clip
from testing.repository import ROOT
from tests.chaos.engine_rows import ENGINE_LOST, run_once
from tests.chaos.folder_rows import FINISH_S, lines_written
from tests.chaos.invariants import folder_findings
from tests.chaos.table import Result, Row

MINUTE_S = 60.0
CLIPS_A_SECOND = 2.0
LOOK_S = 2.0
MOST_MB_A_MINUTE = 1.0  # I6: the slope of the resident memory over the second half of a process's life
MOST_A_MINUTE = 0.5  # the slope of whatever is counted: one descriptor in two minutes would be found
_SETTLED_S = 60.0  # a process's first minute fills its pools
_MB = 1024.0


@dataclass
class Look:
    """What one process held at one moment."""

    pid: int
    at_s: float
    rss_mb: float
    descriptors: int
    threads: int
    segments: int  # shared memory that it has mapped


def look(pid: int) -> Look | None:
    """Look at a process; None when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        facts = dict(line.split(":", 1) for line in status)
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        rss_mb = int(facts["VmRSS"].split()[0]) / _MB
        maps = Path(f"/proc/{pid}/maps").read_text()
        segments = maps.count("/memfd:") + maps.count("/dev/shm/")
        return Look(pid, time.monotonic(), rss_mb, descriptors, int(facts["Threads"]), segments)
    except (OSError, KeyError):
        return None


@dataclass
class Soak:
    """A daemon that is fed and struck. ``exits`` are how its processes ended, in order."""

    folder: Path
    names: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    process: "subprocess.Popen[bytes] | None" = None
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        (self.folder / "inbox").mkdir(parents=True)
        (self.folder / "faults.yaml").write_text("{}\n")
        self.config = write_config(self.folder, delay_ms=100.0, script="faults.yaml")
        self.config.write_text(
            self.config.read_text() + "timeouts: {stall_s: 3.0, request_deadline_s: 2.0, drain_s: 10.0}\n"
        )
        self.clip = self.folder / "clip.mp4"
        write_load_clip(self.clip)

    def feed(self) -> None:
        """Put a clip into the inbox each half second, until the soak is over."""
        for number in itertools.count():
            if self.over.wait(1 / CLIPS_A_SECOND):
                return
            name = f"c{number:05d}.mp4"
            beside = self.folder / "inbox" / f"{name}.part"
            shutil.copy(self.clip, beside)
            beside.rename(beside.with_name(name))
            self.names.append(name)

    def keep_running(self) -> None:
        """Start the daemon again whenever it ends, and look at it in between."""
        command = [sys.executable, "-m", "daemon", "run", "-c", str(self.config)]
        while not self.over.is_set():
            with (self.folder / "daemon.log").open("ab") as log:
                self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            while self.process.poll() is None:
                self.looks += filter(None, [look(self.process.pid)])
                time.sleep(LOOK_S)
            self.exits.append(self.process.returncode)

    @property
    def pid(self) -> int:
        """The process that runs, or the last one that did."""
        assert self.process is not None
        return self.process.pid

    def script(self, text: str) -> None:
        """Give the next process a fault of its engine."""
        (self.folder / "faults.yaml").write_text(text + "\n")

    def decoders(self) -> list[int]:
        """Return the decoding children."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def _kill_decoder(soak: Soak) -> None:
    os.kill(random.choice(soak.decoders()), signal.SIGKILL)


def _stop_decoder(soak: Soak) -> None:
    """A decoder that hangs for some seconds, within its deadline."""
    pid = random.choice(soak.decoders())
    os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    os.kill(pid, signal.SIGCONT)


def _bad_clip(soak: Soak) -> None:
    name = f"bad{len(soak.bad)}.mp4"
    (soak.folder / "inbox" / name).write_bytes(soak.clip.read_bytes()[:900])
    soak.bad.append(name)


def _reload(soak: Soak) -> None:
    text = soak.config.read_text().partition("prompt:")[0]
    soak.config.write_text(text + f"prompt: {{text: 'What moves, {time.monotonic():.0f}?'}}\n")
    os.kill(soak.pid, signal.SIGHUP)


def _pause(soak: Soak) -> None:
    """The whole program stands still for longer than its engine may."""
    os.kill(soak.pid, signal.SIGSTOP)
    time.sleep(6)
    os.kill(soak.pid, signal.SIGCONT)


def _kill(soak: Soak) -> None:
    os.kill(soak.pid, signal.SIGKILL)


def _stop(soak: Soak) -> None:
    os.kill(soak.pid, signal.SIGTERM)


def _die(soak: Soak) -> None:
    """An engine that dies: the program is stopped, and the next one's dies within the minute."""
    soak.script("die_at_request: 150\nonce: " + str(soak.folder / f"struck-{time.monotonic_ns()}"))
    _stop(soak)


def _hang(soak: Soak) -> None:
    soak.script("hang_at_request: 150\nonce: " + str(soak.folder / f"struck-{time.monotonic_ns()}"))
    _stop(soak)


LIVING: tuple[Callable[[Soak], None], ...] = (_kill_decoder, _bad_clip, _reload, _stop_decoder, _pause)
ENDING: tuple[Callable[[Soak], None], ...] = (_kill, _die, _stop, _hang)


def s1(faults: int, folder: Path) -> Result:
    """``faults`` minutes, each with a fault; nothing lost, and what the process holds stays flat."""
    soak = Soak(folder)
    workers = [threading.Thread(target=soak.feed), threading.Thread(target=soak.keep_running)]
    for worker in workers:
        worker.start()
    half = (faults + 1) // 2
    strikes = [
        *itertools.islice(itertools.cycle(LIVING), half),
        *itertools.islice(itertools.cycle(ENDING), faults - half),
    ]
    begun_s = time.monotonic()
    for minute, strike in enumerate(strikes, 1):
        time.sleep(max(0.0, begun_s + minute * MINUTE_S - time.monotonic()))
        print(
            f"  minute {minute}: {strike.__name__.strip('_')}, {lines_written(folder / 'captions')} captions",
            flush=True,
        )
        strike(soak)
    time.sleep(MINUTE_S / 2)
    soak.over.set()
    soak.script("{}")
    _stop(soak)
    for worker in workers:
        worker.join(FINISH_S)
    soak.exits.append(run_once(soak.config))
    return _judged(soak, faults)


def _judged(soak: Soak, faults: int) -> Result:
    folder = soak.folder
    found = folder_findings(soak.names, folder / "inbox", folder / "captions" / "load", WINDOWS_EACH)
    result = Result(faults, found.windows, found.lost, found.twice, 0.0, list(found.wrong))
    failed = {path.name.removesuffix(".reason.json") for path in (folder / "inbox" / "failed").glob("*.reason.json")}
    if failed != set(soak.bad):
        result.wrong.append(f"rejected are {sorted(failed)}, not {soak.bad}")
    if unexpected := set(soak.exits) - {0, -signal.SIGKILL, ENGINE_LOST}:
        result.wrong.append(f"exits {sorted(unexpected)}")
    for line, flat in _figures(soak):
        print(f"  {line}", flush=True)
        result.wrong += [] if flat else [line]
    print(f"  exits {soak.exits}", flush=True)
    return result


def _figures(soak: Soak) -> Iterator[tuple[str, bool]]:
    """Yield a line for each process that lived for some minutes, and whether it stayed flat."""
    for pid, group in itertools.groupby(soak.looks, key=lambda one: one.pid):
        looks = list(group)
        later = [
            one for one in looks if one.at_s - looks[0].at_s > max(_SETTLED_S, (looks[-1].at_s - looks[0].at_s) / 2)
        ]
        if len(later) < MINUTE_S / LOOK_S:
            continue
        minutes = [one.at_s / 60 for one in later]
        slope_mb = float(np.polyfit(minutes, [one.rss_mb for one in later], 1)[0])
        counts = np.array([(one.descriptors, one.threads, one.segments) for one in later])
        low, high = counts.min(axis=0), counts.max(axis=0)
        line = (
            f"process {pid}, {(looks[-1].at_s - looks[0].at_s) / 60:.1f} min: {later[0].rss_mb:.1f} to "
            f"{later[-1].rss_mb:.1f} MB, {slope_mb:+.2f} MB/min; descriptors {low[0]}-{high[0]}, "
            f"threads {low[1]}-{high[1]}, shared memory {low[2]}-{high[2]}"
        )
        yield line, slope_mb < MOST_MB_A_MINUTE and bool((np.polyfit(minutes, counts, 1)[0] < MOST_A_MINUTE).all())


ROWS = (Row("S1", "a soak, a fault each minute", 20, 0, s1),)
