"""Live streams through a whole daemon: each window one message with its own frames, whoever is killed meanwhile."""

import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from testing.cameras.servers import CameraSettings, RtspCamera, why_no_rtsp
from testing.cameras.stream_job import StreamJob, assert_no_holes, described, until

SECRET, USER = "pa55-w0rd-of-the-door", "viewer-of-the-door"
FPS = 25

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_no_rtsp()), reason=why_no_rtsp() or "it is there"),
]


def wall_ms(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000


def frames_of(message: dict[str, Any]) -> list[tuple[int, float]]:
    """Return the number that each frame of a window shows, and when that was on the wall clock."""
    end_ms, end_ns = wall_ms(message["stream"]["wall_end"]), message["window"]["exclusive_end_ns"]
    times = [end_ms - (end_ns - pts_ns) / 1e6 for pts_ns in message["frames"]["pts_ns"]]
    return list(zip(map(int, message["text"].split()), times, strict=True))


def assert_frames_in_time(messages: list[dict[str, Any]]) -> None:
    """Hold that every number stands at its own time: between two gaps, numbers and the wall clock go together."""
    runs = [list(run) for whole, run in groupby(messages, lambda one: not one["stream"]["missing"]) if whole]
    assert runs
    for run in runs:
        frames = [frame for message in described(run) for frame in frames_of(message)]
        assert all(number >= 0 for number, _ in frames)
        begun_ms = [at_ms - number * 1000 / FPS for number, at_ms in frames]
        assert max(begun_ms) - min(begun_ms) < 1000 / FPS, sorted(begun_ms)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[StreamJob]:
    with RtspCamera(CameraSettings(fps=FPS, auth="digest", user=USER, password=SECRET)) as camera:
        url = f"rtsp://${{DOOR_LOGIN}}@127.0.0.1:{camera.port}/live"
        made = StreamJob(
            tmp_path, {"door": f'url: "{url}"'}, environment={"DOOR_LOGIN": f"{USER}:{SECRET}", "HOME": str(tmp_path)}
        )
        made.camera = camera  # type: ignore[attr-defined]
        try:
            yield made
        finally:
            made.kill()


def command_lines() -> Iterator[bytes]:
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                yield Path(entry.path, "cmdline").read_bytes()
            except OSError:
                continue


def assert_kept_secret(job: StreamJob) -> None:
    """Hold that neither the user nor the password stands anywhere but in the daemon's own environment."""
    pages = {path: job.get(path) for path in ("/metrics", "/status.json", "/", "/readyz")}
    texts = {path: page.content for path, page in pages.items() if page is not None}
    assert set(texts) == set(pages)
    texts |= {str(number): line for number, line in enumerate(command_lines())}
    for path in job.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            texts[str(path)] = path.read_bytes()
    for where, text in texts.items():
        assert SECRET.encode() not in text, where
        assert USER.encode() not in text, where


def test_each_window_has_one_message_though_daemon_and_camera_die(job: StreamJob) -> None:
    camera: RtspCamera = job.camera  # type: ignore[attr-defined]
    job.start()
    job.until_described("door", 3)
    assert_kept_secret(job)

    job.kill()
    down_s = time.time()
    until(lambda: time.time() > down_s + 2 * job.window_s)
    job.start()  # while it was down nobody recorded
    before = job.until_described("door", 2)
    assert_no_holes(before)
    assert_frames_in_time(before)

    camera.kill()
    until(lambda: any(one.get("reason") == "away" for one in job.messages("door") if one["status"] == "gap"))
    page = job.get("/status.json")
    assert page is not None
    assert not page.json()["streams"]["door"]["connected"]
    assert_kept_secret(job)
    camera.start()
    job.until_described("door", 2)
    assert job.stop() == 0

    messages = job.messages("door")
    assert_no_holes(messages)
    assert {one["status"] for one in messages} == {"success", "gap"}
    reasons = defaultdict(list)
    for one in messages:
        for missing in one["stream"]["missing"]:
            reasons[missing["reason"]].append(missing)
    assert {"not_recording", "away"} <= set(reasons)
    assert_frames_in_time(messages)
    tracks = sorted((job.folder / "captions" / "door").glob("*/*.vtt"))
    assert sum(len(re.findall("-->", track.read_text())) for track in tracks) == len(messages)
    recorded = job.state_dir / "streams" / "door"
    assert recorded.stat().st_mode & 0o077 == 0
    assert (recorded / "position.json").stat().st_mode & 0o077 == 0


def test_the_parts_of_the_latency_are_in_the_message(job: StreamJob) -> None:
    job.start()
    messages = described(job.until_described("door", 3))
    job.stop()

    for one in messages:
        timing = one["timing_ms"]
        parts = [timing[name] for name in ("record", "wait", "plan", "decode", "queue", "engine", "order")]
        assert timing["since_arrival"] >= max(parts), json.dumps(timing)
