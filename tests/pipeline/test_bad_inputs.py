"""Row D2: bad and odd input through the whole daemon. A named reason each, and the neighbours unharmed."""

import os
import threading
import time
from pathlib import Path

import pytest

from tests.corpus.broken import PLAYLISTS, audio_only, bomb, cut, declares_a_day, written, zero_frames
from tests.corpus.clips import READABLE, make
from tests.pipeline.daemon_process import FolderJob

EVERY_CODEC = ("hevc_10_bit", "vp9", "av1", "mpeg4_avi", "vfr_mp4", "rotated_90", "negative_start_mp4", "h264_mbaff")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> FolderJob:
    """Let one daemon take everything at once."""
    folder = tmp_path_factory.mktemp("bad")
    job, at = FolderJob(folder), folder / "inbox"
    for name in ("first", "last"):
        make(at / name, READABLE["h264"])
    written(at / "empty.mp4", b"")
    written(at / "text.mp4", b"Not a video at all.\n" * 40)
    written(at / "playlist.mp4", PLAYLISTS["hls"] % 9)
    audio_only(at / "audio")
    zero_frames(at / "none")
    bomb(at / "bomb", "libx264", "mp4")
    for percent in (10, 50, 90):
        cut(at / f"cut{percent}", percent / 100)
    declares_a_day(at / "day")
    make(at / "one", READABLE["one_frame"])
    for name in EVERY_CODEC:
        make(at / name, READABLE[name])
    outside = written(folder / "secret.mp4", (at / "first.mp4").read_bytes())
    (at / "link.mp4").symlink_to(outside)
    job.run_once()
    return job


FAILED = {
    "empty.mp4": "empty",
    "text.mp4": "not_a_video",
    "playlist.mp4": "forbidden_format",
    "audio.m4a": "no_video_stream",
    "none.mp4": "no_frames",
    "bomb.mp4": "over_budget",
    "link.mp4": "forbidden_path",
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", FAILED)
def test_the_reason_is_named(name: str, job: FolderJob) -> None:
    reason = job.reason(name)

    assert reason["reason"] == FAILED[name]
    assert str(job.folder) not in str(reason)
    assert (job.failed / name).is_symlink() == (name == "link.mp4")


@pytest.mark.parametrize(("percent", "windows"), [(10, 0), (50, 9), (90, 25)])
def test_a_cut_clip_keeps_the_captions_of_its_whole_windows(percent: int, windows: int, job: FolderJob) -> None:
    *captions, rejection = job.messages(f"cut{percent}.mp4")

    assert job.reason(f"cut{percent}.mp4")["reason"] == "truncated"
    assert [message["window"]["index"] for message in captions] == list(range(len(captions)))
    assert abs(len(captions) - windows) <= 1  # where a codec puts its bytes depends on its version
    assert rejection["type"] == "captiond.clip.v1"
    assert rejection["next_window"] == len(captions)


@pytest.mark.parametrize("name", ["first.mp4", "last.mp4"])
def test_the_neighbours_are_unharmed(name: str, job: FolderJob) -> None:
    assert (job.done / name).is_file()
    assert [message["status"] for message in job.messages(name)] == ["success"] * 3


@pytest.mark.parametrize("name", [*EVERY_CODEC, "day", "one"])
def test_what_can_be_captioned_is(name: str, job: FolderJob) -> None:
    suffix = "mp4" if name in ("day", "one") else READABLE[name].suffix
    messages = job.messages(f"{name}.{suffix}")

    assert (job.done / f"{name}.{suffix}").is_file()
    assert messages
    assert {message["status"] for message in messages} == {"success"}


@pytest.mark.timeout(120)
def test_a_clip_that_grows_while_it_is_read_is_rejected(tmp_path: Path) -> None:
    job = FolderJob(tmp_path, engine="{kind: fake, delay_ms: 600, slots: 1}")
    clip = make(tmp_path / "inbox" / "grows", READABLE["h264_mkv"]).path
    old = time.time() - 60
    os.utime(clip, (old, old))

    def grow() -> None:
        deadline = time.monotonic() + 60
        output = job.captions / "grows.mkv.jsonl"
        while time.monotonic() < deadline and not output.exists():
            time.sleep(0.01)
        (claimed,) = (tmp_path / "inbox" / "work").rglob("grows.mkv")
        with claimed.open("ab") as file:
            file.write(b"more")

    writer = threading.Thread(target=grow)
    writer.start()
    job.run_once()
    writer.join()

    assert job.reason("grows.mkv")["reason"] == "changed"


@pytest.mark.timeout(120)
def test_a_clip_that_vanishes_while_it_is_read_ends_with_a_reason(tmp_path: Path) -> None:
    job = FolderJob(tmp_path, engine="{kind: fake, delay_ms: 600, slots: 1}")
    make(tmp_path / "inbox" / "goes", READABLE["h264"])
    make(tmp_path / "inbox" / "stays", READABLE["h264"])

    def remove() -> None:
        deadline = time.monotonic() + 60
        output = job.captions / "goes.mp4.jsonl"
        while time.monotonic() < deadline and not output.exists():
            time.sleep(0.01)
        for claimed in (tmp_path / "inbox" / "work").rglob("goes.mp4"):
            claimed.unlink()

    remover = threading.Thread(target=remove)
    remover.start()
    job.run_once()
    remover.join()

    assert job.reason("goes.mp4")["reason"] == "vanished"
    assert (job.done / "stays.mp4").is_file()


def test_a_decoder_that_does_not_start_ends_the_program_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = FolderJob(tmp_path)
    make(tmp_path / "inbox" / "clip", READABLE["h264"])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "av.py").write_text("raise SystemExit('a library is missing')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))

    said = job.run_once(expect=70)

    assert "ERROR   a decoder does not start: the decoder died" in said
    assert "Traceback" not in said
    assert (tmp_path / "inbox" / "clip.mp4").is_file()
