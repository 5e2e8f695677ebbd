"""Live streams recorded window by window: which frames are in them, how late they are, and what recorders take.

    python -m bench.live.recorders [--minutes 0.5] [--streams 1] [--window-s 4] [--server rtsp]
        [--width 256 --height 144]

A real server sends numbered frames to so many recordings. Each window is put together and decoded as soon as it is
known: a number that is left out was lost, one that comes twice was there twice. It fails for either, for a window with
something missing, and for a recording that outgrows its bound. 600 s and 33 streams at 640 x 360 are
``--minutes 10 --streams 33 --width 640 --height 360``.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness.report import percentile
from connectors.stream.disk_recording import DiskRecording
from connectors.stream.settings import StreamSourceSettings
from testing.cameras.ffmpeg_servers import HlsCamera, UdpCamera
from testing.cameras.seen_frames import seen_frames
from testing.cameras.servers import CameraSettings, RtspCamera, why_no_rtsp

SECOND_NS = 10**9
MAX_DISK = 64 * 2**20
_NUMBERS = 2**16  # then they begin again


@dataclass
class Watched:
    """What was seen of one stream."""

    frames: int = 0
    lost: int = 0
    twice: int = 0
    missing: int = 0
    late_ms: list[float] = field(default_factory=list)
    disk_bytes: int = 0
    last: int | None = None

    def take(self, numbers: list[int]) -> None:
        """Hold the numbers of the next window to those before."""
        for number in numbers:
            if self.last is not None:
                step = (number - self.last) % _NUMBERS
                self.twice += step == 0 or step > _NUMBERS // 2
                self.lost += step - 1 if 1 < step <= _NUMBERS // 2 else 0
            self.last = number
        self.frames += len(numbers)


async def watch(recording: DiskRecording, folder: Path, windows: int, window_s: int) -> Watched:
    """Watch the next windows of a recording."""
    found, length_ns = Watched(), window_s * SECOND_NS
    while recording.first_ns is None:  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.1)
    first = -(-recording.first_ns // length_ns)
    for index in range(first, first + windows):
        window = await recording.window(index * length_ns, (index + 1) * length_ns)
        found.late_ms.append((time.time_ns() - window.arrived_ns) / 1e6)
        found.missing += len(window.missing)
        found.take([frame.number for frame in await asyncio.to_thread(seen_frames, window)])
        sizes = [path.stat().st_size for path in (folder / recording.name / "recording").glob("*.m4s") if path.exists()]
        found.disk_bytes = max(found.disk_bytes, sum(sizes))
        await recording.release(index * length_ns)
    return found


def of_process(pid: int | None) -> tuple[float, int]:
    """Return a process's resident memory in MB, and its open files."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir(f"/proc/{pid}/fd"))


async def measure(options: argparse.Namespace, url: str, folder: Path) -> bool:
    """Record, watch and print; whether nothing was lost."""
    windows = max(int(options.minutes * 60 / options.window_s), 1)
    settings = StreamSourceSettings(url=url, max_disk=MAX_DISK)
    async with AsyncExitStack() as stack:
        recordings = [DiskRecording(f"door{at}", settings, folder / f"door{at}") for at in range(options.streams)]
        for recording in recordings:
            await recording.start()
            stack.push_async_callback(recording.close)
        watching = [asyncio.create_task(watch(one, folder, windows, options.window_s)) for one in recordings]
        await asyncio.sleep(min(20.0, options.minutes * 30))
        begin = [of_process(one.pid) for one in recordings]
        watched = await asyncio.gather(*watching)
        end = [of_process(one.pid) for one in recordings]
    late = sorted(late for one in watched for late in one.late_ms)
    totals = {name: sum(getattr(one, name) for one in watched) for name in ("frames", "lost", "twice", "missing")}
    print(f"{options.streams} streams, {windows} windows of {options.window_s} s each: {totals}")
    print(f"from the last packet to the window: {percentile(late, 0.5):.0f} ms, p95 {percentile(late, 0.95):.0f} ms")
    print(f"most on disk: {max(one.disk_bytes for one in watched) / 1e6:.1f} MB of {MAX_DISK / 1e6:.0f} MB a stream")
    for word, at in (("at first", begin), ("at the end", end)):
        print(f"a recorder {word}: {max(mb for mb, _ in at):.1f} MB, {max(files for _, files in at)} files at most")
    is_bounded = all(one.disk_bytes <= MAX_DISK for one in watched)
    return not totals["lost"] and not totals["twice"] and not totals["missing"] and is_bounded


def main() -> int:
    """Measure; 0 when no frame was lost."""
    parser = argparse.ArgumentParser()
    for name, kind, usual in (("minutes", float, 0.5), ("streams", int, 1), ("window-s", int, 4)):
        parser.add_argument(f"--{name}", type=kind, default=usual)
    for name, size in (("width", 256), ("height", 144)):
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--server", choices=["rtsp", "udp", "hls"], default="rtsp")
    options = parser.parse_args()
    if options.server == "rtsp" and why_no_rtsp():
        print(f"not measured: {why_no_rtsp()}")
        return 0
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "hls").mkdir()
        camera: RtspCamera | UdpCamera | HlsCamera
        if options.server == "rtsp":
            camera = RtspCamera(CameraSettings(width=options.width, height=options.height))
        else:
            camera = UdpCamera() if options.server == "udp" else HlsCamera(folder / "hls")
        stack.enter_context(camera)
        return 0 if asyncio.run(measure(options, camera.url, folder / "streams")) else 1


if __name__ == "__main__":
    sys.exit(main())
