"""An archive through the whole daemon: killed again and again, each window is captioned once, hostile members end."""

import io
import json
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from testing.load import WINDOWS_EACH, write_load_clip
from testing.power_cut import power_cut
from tests.pipeline.daemon_process import FolderJob

CLIPS, KILLS = 6, 3


class TarJob(FolderJob):
    """A daemon whose source is an archive."""

    def config(self) -> Path:
        path = super().config()
        text = path.read_text().replace(
            "{kind: folder, path: inbox, settle_s: 0.1, scan_s: 1.0}", "{kind: tar, path: films.tar, settle_s: 0}"
        )
        assert "films.tar" in text
        path.write_text(text)
        return path


def write_archive(path: Path) -> None:
    write_load_clip(path.with_name("clip.mp4"))
    content = path.with_name("clip.mp4").read_bytes()
    with tarfile.open(path, "w") as tar:
        for name in [*(f"sub/{number}.mp4" for number in range(CLIPS)), "../../evil.mp4"]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)


def lines_of(captions: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in captions.rglob("*.jsonl"))


@pytest.mark.timeout(240)
def test_an_archive_goes_on_after_kills_and_each_window_is_captioned_once(tmp_path: Path) -> None:
    job = TarJob(
        tmp_path,
        engine="{kind: fake, delay_ms: 100, slots: 2}",
        more="windows: {window_s: 1.0}\nframes: {num_frames: 2}\nlimits: {max_clips_in_flight: 2}\n",
    )
    write_archive(tmp_path / "films.tar")

    killed = 0
    for _ in range(KILLS):
        process = job.start("--once")
        aim, deadline = lines_of(job.captions) + 6, time.monotonic() + 50
        while lines_of(job.captions) < aim and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        power_cut(tmp_path / "state")  # kills that are no clip's doing
        killed += process.returncode == -signal.SIGKILL
    said = job.run_once()

    assert killed == KILLS
    for number in range(CLIPS):
        messages = job.messages(f"sub/{number}.mp4")
        assert [message["window"]["index"] for message in messages] == list(range(WINDOWS_EACH)), said
    rejected = [
        message
        for path in job.captions.rglob("*.jsonl")
        for message in map(json.loads, path.read_text().splitlines())
        if message["type"] != "captiond.caption.v1"
    ]
    assert sorted(message["reason"] for message in rejected) == ["forbidden_path", "forbidden_path"]
    assert not list(tmp_path.rglob("evil.mp4"))
    job.run_once()
    assert lines_of(job.captions) == CLIPS * WINDOWS_EACH + 2  # another run finds everything done


def test_one_run_without_its_archive_says_so(tmp_path: Path) -> None:
    job = TarJob(tmp_path)

    done = subprocess.run(job.command("run", "--once"), capture_output=True, text=True, check=False)

    assert done.returncode == 78
    assert "sources.inbox.path: there is no" in done.stderr
