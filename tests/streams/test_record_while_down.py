"""`captiond record` beside a daemon: what was recorded while the daemon was killed has its captions afterwards."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.cameras.servers import RtspCamera, why_no_rtsp
from testing.cameras.stream_job import StreamJob, assert_no_holes, until
from testing.repository import ROOT

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_no_rtsp()), reason=why_no_rtsp() or "it is there"),
]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[StreamJob]:
    with RtspCamera() as camera:
        made = StreamJob(tmp_path, {"door": f"url: '{camera.url}', record_while_down: true"})
        try:
            yield made
        finally:
            made.kill()


@pytest.fixture
def recorders(job: StreamJob) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "daemon", "record", "-c", str(job.config())]
    with (job.folder / "record.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        until(lambda: list((job.state_dir / "streams" / "door" / "recording").glob("*.m4s")))
        yield process
    finally:
        process.kill()
        process.wait()


def recorder_of(job: StreamJob) -> int:
    return int((job.state_dir / "streams" / "door" / "recording" / "lock").read_text().split()[0])


def test_recording_goes_on_while_the_daemon_is_down(job: StreamJob, recorders: "subprocess.Popen[bytes]") -> None:
    pid = recorder_of(job)
    job.start()
    job.until_described("door", 2)
    job.kill()
    down_s = time.time()
    until(lambda: time.time() > down_s + 2 * job.window_s)
    job.start()
    job.until_described("door", 4)
    assert job.stop() == 0
    still = recorder_of(job)
    recorders.terminate()

    assert recorders.wait(60) == 0
    assert pid == still
    assert not Path(f"/proc/{pid}").exists()
    messages = job.messages("door")
    assert_no_holes(messages)
    assert {one["status"] for one in messages} == {"success"}
    assert not any(one["stream"]["missing"] for one in messages)


def test_without_a_stream_that_wants_it_there_is_nothing_to_record(tmp_path: Path) -> None:
    job = StreamJob(tmp_path, {"door": "url: 'udp://127.0.0.1:9'"})
    command = [sys.executable, "-m", "daemon", "record", "-c", str(job.config())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 78
    assert "no stream has record_while_down: true" in done.stderr
