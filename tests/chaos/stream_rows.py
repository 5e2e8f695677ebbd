"""Faults of live streams: each window has exactly one message in the order of its index, whatever strikes whom.

The camera is GStreamer's RTSP server, and for time stamps that wrap ffmpeg, which sends MPEG-TS over UDP.
"""

import contextlib
import os
import random
import re
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from testing.cameras.ffmpeg_servers import UdpCamera
from testing.cameras.servers import RtspCamera, why_no_rtsp
from testing.cameras.stream_job import StreamJob, described
from testing.cameras.tcp_proxy import TcpProxy
from tests.chaos.clock_rows import SHIFTS_S, build_shim, set_clock
from tests.chaos.table import Result, Row

WINDOW_S = 2.0
RECOVERY_S = 150.0  # the longest back-off is 60 s, and a camera may be back just after one began
POLICIES = ("wait", "thin", "skip")
WRAP_S = 2**33 / 90_000


def found_in(job: StreamJob, name: str, faults: int) -> Result:
    """Hold a stream's messages against the promises."""
    messages = job.messages(name)
    indices = [one["stream"]["index"] for one in messages]
    result = Result(faults, len(set(indices)))
    if not indices:
        result.wrong.append(f"{name}: no message at all")
        return result
    result.lost = indices[-1] - indices[0] + 1 - len(set(indices))
    result.twice = len(indices) - len(set(indices))
    result.wrong += [f"{name}: messages out of order"] if indices != sorted(indices) else []
    result.wrong += [f"{one['stream']['index']}: {one['detail']}" for one in messages if one["status"] == "error"]
    cues = sum(len(re.findall("-->", path.read_text())) for path in (job.folder / "captions" / name).glob("*/*.vtt"))
    result.wrong += [f"{name}: {cues} cues for {len(messages)} messages"] if cues != len(messages) else []
    return result


@contextlib.contextmanager
def running(job: StreamJob) -> Iterator[StreamJob]:
    """Run a daemon that captions already; stop it at the end, as a service manager does."""
    try:
        job.start()
        job.until_described("door", 1)
        yield job
        if code := job.stop():
            raise AssertionError(f"exit {code}: {job.log.read_text()[-2000:]}")
    finally:
        job.kill()


def struck(
    job: StreamJob, faults: int, strike: Callable[[], None], heal: Callable[[], None], most_s: float = 4.0
) -> Result:
    """Strike a daemon so many times, each time until captions come again."""
    chance, slowest_s = random.Random(faults), 0.0
    with running(job):
        for _ in range(faults):
            strike()
            time.sleep(chance.uniform(0.1, most_s))
            heal()
            begun_s = time.monotonic()
            job.until_described("door", 1)
            slowest_s = max(slowest_s, time.monotonic() - begun_s)
    result = found_in(job, "door", faults)
    result.add_recovery(slowest_s, RECOVERY_S, "door")
    return result


def server_killed(faults: int, folder: Path) -> Result:
    """L1: the camera's server is killed, and comes back."""
    with RtspCamera() as camera:
        return struck(StreamJob(folder, {"door": f"url: {camera.url}"}), faults, camera.kill, camera.start)


def network_cut(faults: int, folder: Path) -> Result:
    """L2: the way to the camera leads through a proxy that is cut."""
    with RtspCamera() as camera, contextlib.closing(TcpProxy(camera.port)) as proxy:
        job = StreamJob(folder, {"door": f"url: rtsp://127.0.0.1:{proxy.port}/live"})
        return struck(job, faults, proxy.cut, proxy.heal)


def camera_hangs(faults: int, folder: Path) -> Result:
    """L3: the camera neither sends nor closes; that is noticed after silence_s."""
    with RtspCamera() as camera:
        job = StreamJob(folder, {"door": f"url: {camera.url}, silence_s: 2"})
        result = struck(job, faults, camera.hang, camera.go_on, most_s=8.0)
    return result


def daemon_killed(faults: int, folder: Path) -> Result:
    """L4: the daemon and its recorder are killed, and started again."""
    with RtspCamera() as camera:
        job = StreamJob(folder, {"door": f"url: {camera.url}"})
        return struck(job, faults, job.kill, job.start)


def disk_full(faults: int, folder: Path) -> Result:
    """L5: the disk of the recording and of the captions is full for a while."""
    folder.mkdir(parents=True)
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
    filler = folder / "filler"

    def fill() -> None:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    try:
        with RtspCamera() as camera:
            job = StreamJob(folder, {"door": f"url: {camera.url}, max_disk: 16MiB"})
            return struck(job, faults, fill, filler.unlink)
    finally:
        subprocess.run(["/bin/umount", "-l", folder], check=False)


def engine_slow(minutes: int, folder: Path) -> Result:
    """L6: for so many minutes the engine gets through a third of what three streams want, each under another policy."""
    with RtspCamera() as camera:
        sources = {policy: f"url: {camera.url}, on_lag: {policy}, lag_s: 6" for policy in POLICIES}
        engine = f"{{kind: fake, slots: 1, delay_ms: {1000 * WINDOW_S}}}"
        job = StreamJob(folder, {"door": f"url: {camera.url}", **sources}, engine=engine)
        with running(job):
            time.sleep(60 * minutes)
    result = Result()
    for policy in POLICIES:
        result.add(found_in(job, policy, 1))
        messages = job.messages(policy)
        said = Counter(one["status"] for one in messages)
        thinned = any(one["stream"]["thinned"] for one in messages)
        fits = {"wait": not said["skipped"] and not thinned, "thin": thinned, "skip": bool(said["skipped"])}
        if not fits[policy]:
            result.wrong.append(f"{policy}: {dict(said)}, thinned: {thinned}")
    late_s = max((one["timing_ms"]["since_arrival"] / 1000 for one in described(job.messages("skip"))), default=0.0)
    result.add_recovery(late_s, 60.0, "skip", "a caption")
    return result


def clock_steps(faults: int, folder: Path) -> Result:
    """L7: the daemon's wall clock jumps by an hour and by a day, both ways, also over its own end and start."""
    folder.mkdir(parents=True)
    shift = folder / "shift"
    shift.write_bytes(struct.pack("=q", 0))
    shim = {"LD_PRELOAD": str(build_shim(folder)), "CLOCK_SHIFT": str(shift)}
    steps = iter(range(faults))
    with RtspCamera() as camera:
        job = StreamJob(folder, {"door": f"url: {camera.url}"}, environment=shim)

        def step() -> None:
            number = next(steps)
            set_clock(shift, SHIFTS_S[number % len(SHIFTS_S)])
            if number % 2:
                job.kill()
                job.start()

        return struck(job, faults, step, lambda: None, most_s=1.0)


def stamps_wrap(faults: int, folder: Path) -> Result:
    """L8: MPEG-TS whose 33 bits of time stamps wrap a few seconds after each start of the camera."""
    camera = UdpCamera()
    job = StreamJob(folder, {"door": f"url: '{camera.url}'"})
    early = str(int(WRAP_S) - 4)

    def wrap() -> None:
        camera.kill()
        camera.start("-output_ts_offset", early)

    with camera:
        result = struck(job, faults, wrap, lambda: job.until_described("door", 4) and None, most_s=0.2)
    return result


def _with_cameras(run: Callable[[int, Path], Result]) -> Callable[[int, Path], Result]:
    """Say what is missing on a machine that has no RTSP server."""

    def checked(faults: int, folder: Path) -> Result:
        why = why_no_rtsp()
        return Result(wrong=[why] if os.environ.get("CI") == "true" else []) if why else run(faults, folder)

    return checked


ROWS = (
    Row("L1", "a stream's server is killed", 20, 0, _with_cameras(server_killed)),
    Row("L2", "the network to a stream is cut", 20, 0, _with_cameras(network_cut)),
    Row("L3", "a camera hangs without closing", 10, 0, _with_cameras(camera_hangs)),
    Row("L4", "kill -9 of a daemon that records a stream", 50, 1, _with_cameras(daemon_killed)),
    Row("L5", "the disk of a recording is full", 10, 0, _with_cameras(disk_full)),
    Row("L6", "the engine is three times too slow for streams, in minutes", 10, 0, _with_cameras(engine_slow)),
    Row("L7", "a daemon's clock steps while it captions a stream", 8, 0, _with_cameras(clock_steps)),
    Row("L8", "a stream's time stamps wrap", 10, 0, stamps_wrap),
)
