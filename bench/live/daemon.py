"""A whole daemon over live streams with the fake engine: is a window lost or late, and does the daemon grow?

    python -m bench.live.daemon [--minutes 0.5] [--streams 2] [--window-s 4] [--width 256 --height 144] [--speed 1]

One server sends numbered frames to all streams, which are captioned from key frames alone. The last line is the
verdict: HELD, or BROKEN with what was. That is a window without a message, a gap, a skipped window or an error behind a
stream's first caption, a stream that is far behind at the end, a recording above its bound, a daemon that ends with an
error, memory or descriptors of the daemon, its recorders and decoders that grew, and a p95 of latency above a segment's
length and 300 ms. Latency is from the arrival of a window's last packet to its caption, as messages say it
(``since_arrival``).

A house full of cameras is ``--minutes 10 --streams 33 --width 640 --height 360``; a day of frames, which ffmpeg sends,
is ``--streams 1 --minutes 24 --speed 60``, where frames come faster than time, so that neither latency nor
being behind is judged; the verdict says how much of the stream was seen, which should be near to minutes times speed.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.harness.report import percentile
from testing.cameras.ffmpeg_servers import UdpCamera
from testing.cameras.servers import CameraSettings, RtspCamera, why_no_rtsp
from testing.cameras.stream_job import StreamJob, described, until

MAX_DISK = 64 * 2**20
_LOOK_S = 0.5
_SEGMENT_MS, _MORE_MS = 1000.0, 300.0
_GROWTH, _GROWTH_MB, _MORE_FILES = 1.1, 20.0, 16  # what a flat line may wobble by
_FIRST_CAPTIONS_S = 900.0  # for as many recorders as there are cameras to be loaded on a busy machine
_BEHIND_S = 20.0  # and two windows, at the end: a server that has no time to send looks so, too
_PARTS = ("record", "wait", "plan", "decode", "queue", "engine", "order")


@dataclass
class Seen:
    """The messages of one stream, as far as its files were read."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    read: dict[Path, int] = field(default_factory=dict)  # bytes of each file

    def look(self, job: StreamJob, name: str) -> None:
        """Read what is new."""
        for path in sorted((job.folder / "captions" / name).glob("*/*.jsonl")):
            with path.open("rb") as file:
                file.seek(self.read.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self.read[path] = self.read.get(path, 0) + len(whole)
            self.messages += [json.loads(line) for line in whole.splitlines()]

    def faults(self) -> Counter[str]:
        """Count the windows without a message, and those without a caption behind the first that has one."""
        indices = [one["stream"]["index"] for one in self.messages]
        first = next((at for at, one in enumerate(self.messages) if one["status"] == "success"), len(indices))
        found = Counter(str(one["status"]) for one in self.messages[first:] if one["status"] != "success")
        found["holes"] = (indices[-1] - indices[0] + 1 - len(indices)) if indices else 1
        return +found


@dataclass(frozen=True)
class Taken:
    """What the daemon and all that it started take together: resident memory in MB, and open files."""

    mb: float
    files: int
    processes: int

    @classmethod
    def now(cls, leader: int) -> "Taken":
        """Look at every process of the daemon's group; one that ends meanwhile counts for nothing."""
        mb, files, processes = 0.0, 0, 0
        for entry in os.scandir("/proc"):
            if not entry.name.isdecimal():
                continue
            with suppress(OSError):
                if os.getpgid(int(entry.name)) != leader:
                    continue
                pages = int(Path(entry.path, "statm").read_text().split()[1])
                files += len(os.listdir(f"{entry.path}/fd"))
                mb += pages * os.sysconf("SC_PAGE_SIZE") / 1e6
                processes += 1
        return cls(mb, files, processes)

    def grew_to(self, later: "Taken") -> list[str]:
        """Return what grew."""
        grown = []
        if later.mb > self.mb * _GROWTH + _GROWTH_MB:
            grown.append(f"memory grew from {self.mb:.0f} to {later.mb:.0f} MB")
        if later.files > self.files + _MORE_FILES:
            grown.append(f"descriptors grew from {self.files} to {later.files}")
        return grown


@dataclass
class Watch:
    """A daemon that is looked at while it runs."""

    job: StreamJob
    seen: dict[str, Seen]
    most_bytes: int = 0
    behind_s: float = 0.0  # of the stream that is furthest behind, at the end

    def look(self) -> None:
        """Read the messages that are new, and the size of the largest recording."""
        for name, one in self.seen.items():
            one.look(self.job, name)
        folders = list((self.job.state_dir / "streams").glob("*/recording"))
        self.most_bytes = max([self.most_bytes, *map(size_of, folders)])

    def until_all_are_described(self) -> None:
        """Wait for the first caption of every stream."""

        def all_are_described() -> bool:
            self.look()
            return all(described(one.messages) for one in self.seen.values())

        until(all_are_described, _FIRST_CAPTIONS_S)

    def watch(self, seconds: float) -> tuple[Taken, Taken]:
        """Look on for so long; return what was taken at first and at the end."""
        assert self.job.process is not None
        leader, end_s = self.job.process.pid, time.monotonic() + seconds
        first = Taken.now(leader)
        while time.monotonic() < end_s:
            self.look()
            time.sleep(_LOOK_S)
        ends = [datetime.fromisoformat(one.messages[-1]["stream"]["wall_end"]) for one in self.seen.values()]
        self.behind_s = time.time() - min(ends).timestamp()
        return first, Taken.now(leader)


def size_of(folder: Path) -> int:
    """Return the bytes of a recording's segments; those that go meanwhile count for nothing."""
    total = 0
    for entry in os.scandir(folder):
        with suppress(OSError):
            total += entry.stat().st_size if entry.name.endswith(".m4s") else 0
    return total


def measure(options: argparse.Namespace, url: str, folder: Path) -> bool:
    """Run the daemon, look on, and print; whether everything held."""
    names = [f"cam{at}" for at in range(options.streams)]
    keys = f"url: '{url}', max_disk: {MAX_DISK}, segment_s: {_SEGMENT_MS / 1000}"
    frames = "{num_frames: 4, snap: keyframe}"
    job = StreamJob(folder, dict.fromkeys(names, keys), window_s=options.window_s, frames=frames)
    watch = Watch(job, {name: Seen() for name in names})
    try:
        job.start()
        watch.until_all_are_described()
        first, last = watch.watch(60 * options.minutes)
        code = job.stop()
    finally:
        job.kill()
    watch.look()
    return report(options, watch, first, last, code)


def report(options: argparse.Namespace, watch: Watch, first: Taken, last: Taken, code: int) -> bool:
    """Print what was seen, and the verdict as the last line; whether it is that everything held."""
    faults = sum((one.faults() for one in watch.seen.values()), Counter[str]())
    captions = [message for one in watch.seen.values() for message in described(one.messages)]
    latency_ms = sorted(one["timing_ms"]["since_arrival"] for one in captions)
    p95_ms, limit_ms = percentile(latency_ms, 0.95), _SEGMENT_MS + _MORE_MS
    for part in _PARTS:
        parts_ms = sorted(one["timing_ms"].get(part, 0.0) for one in captions)
        print(f"  {part}: {percentile(parts_ms, 0.5):.0f} ms, p95 {percentile(parts_ms, 0.95):.0f} ms")
    print(f"latency: {percentile(latency_ms, 0.5):.0f} ms, p95 {p95_ms:.0f} ms")
    broken = [f"{count} of {name}" for name, count in sorted(faults.items())] + first.grew_to(last)
    broken += [f"the daemon ended with {code}"] if code else []
    if watch.most_bytes > MAX_DISK:
        broken.append(f"a recording took {watch.most_bytes / 1e6:.0f} of {MAX_DISK / 1e6:.0f} MB")
    if options.speed <= 1 and watch.behind_s > _BEHIND_S + 2 * options.window_s:
        broken.append(f"a stream was {watch.behind_s:.0f} s behind at the end")
    if options.speed <= 1 and p95_ms > limit_ms:
        broken.append(f"p95 of latency {p95_ms:.0f} ms above {limit_ms:.0f} ms")
    judged = f"of at most {limit_ms:.0f} ms" if options.speed <= 1 else "not judged"
    verdict = f"BROKEN: {', '.join(broken)}" if broken else "HELD"
    counted = ", ".join(f"{name} {faults[name]}" for name in ("gap", "skipped", "error", "holes"))
    print(
        f"{verdict}; {options.streams} streams, {len(captions)} captions of "
        f"{len(captions) * options.window_s / 60:.1f} minutes of stream, {counted}; "
        f"p95 of latency {p95_ms:.0f} ms {judged}; "
        f"most on disk {watch.most_bytes / 1e6:.2f} of {MAX_DISK / 1e6:.0f} MB; "
        f"last message {watch.behind_s:.0f} s behind; "
        f"first {first.mb:.0f} MB and {first.files} descriptors in {first.processes} processes, "
        f"last {last.mb:.0f} MB and {last.files} in {last.processes}"
    )
    return not broken


def main() -> int:
    """Measure; 0 when everything held."""
    parser = argparse.ArgumentParser()
    usual: dict[str, float] = {"minutes": 0.5, "streams": 2, "window-s": 4, "width": 256, "height": 144, "speed": 1.0}
    for name, value in usual.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = parser.parse_args()
    fast = options.speed > 1
    if not fast and why_no_rtsp():
        print(f"not measured: {why_no_rtsp()}")
        return 0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        camera: RtspCamera | UdpCamera
        if fast:
            camera = UdpCamera(speed=options.speed)
        else:
            camera = RtspCamera(CameraSettings(width=options.width, height=options.height))
        stack.enter_context(camera)
        return 0 if measure(options, camera.url, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
