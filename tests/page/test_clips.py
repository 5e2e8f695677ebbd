"""A real daemon and its page: a clip opens as a video with its captions, a click seeks, and a replay is done again."""

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from testing.browser import Page
from testing.load import write_load_clip
from testing.ports import free_port
from tests.pipeline.daemon_process import FolderJob
from tests.pipeline.test_stops import Running

pytestmark = pytest.mark.timeout(300)

WINDOWS = 4
NAME, MEMBER = "porch & <b>.mp4", "night/porch.mp4"


class Daemon:
    """A daemon that has captioned a clip and rejected another."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        more = "windows: {window_s: 2.0}\nframes: {num_frames: 4}\n"
        shard = "  shard: {kind: tar, path: shard.tar, settle_s: 0.1}\n"
        self.job = FolderJob(folder, more=more, listen=f"127.0.0.1:{self.port}", more_sources=shard)
        write_load_clip(self.job.inbox / NAME, windows=2 * WINDOWS, side_px=128)
        self.clip = (self.job.inbox / NAME).read_bytes()
        with tarfile.open(folder / "shard.tar", "w") as tar:
            tar.add(self.job.inbox / NAME, MEMBER)
            tar.add(__file__, "notes.txt")
        (self.job.inbox / "bad.mp4").write_bytes(b"no video")
        self.running = Running(self.job)
        self.running.until((self.job.done / NAME).exists)
        self.running.until((self.job.failed / "bad.mp4").exists)
        member = self.job.folder / "captions" / "shard" / f"{MEMBER}.jsonl"
        self.running.until(lambda: member.exists() and len(member.read_text().splitlines()) == WINDOWS)
        self.site = f"http://127.0.0.1:{self.port}"
        self.address = (folder / "state" / "page-address").read_text().strip()
        self.token = self.address.partition("#token=")[2]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    started = Daemon(tmp_path_factory.mktemp("daemon"))
    yield started
    started.running.terminate()
    code, _ = started.running.end()
    assert code == 0, started.running.log()


def open_clip(page: Page, name: str = NAME) -> None:
    page.until(f"[...document.querySelectorAll('.open')].some(one => one.textContent == {name!r})")
    page(f"[...document.querySelectorAll('.open')].find(one => one.textContent == {name!r}).click()")
    page.until("document.querySelector('#clip').open")


def test_the_token_is_nowhere_but_in_a_private_file(daemon: Daemon) -> None:
    path = daemon.job.folder / "state" / "page-address"

    assert path.stat().st_mode & 0o777 == 0o600
    assert daemon.token not in daemon.running.log()


@pytest.mark.parametrize("name", [NAME, MEMBER], ids=["file", "member"])
def test_a_clip_plays_with_its_track_and_seeks(daemon: Daemon, opened: Callable[..., Page], name: str) -> None:
    page = opened(daemon.address)
    open_clip(page, name)
    page.until("document.querySelector('video').readyState >= 2")
    page.until(f"document.querySelector('track').track.cues?.length == {WINDOWS}")
    cues = page("[...document.querySelector('track').track.cues].map(cue => [cue.startTime, cue.endTime, cue.text])")
    page.until(f"document.querySelectorAll('.timeline button').length == {WINDOWS}")
    page("document.querySelectorAll('.timeline button')[2].click()")
    page.until("!document.querySelector('video').seeking")
    sought = page("document.querySelector('video').currentTime")
    marked = page("[...document.querySelectorAll('.timeline button')].findIndex(one => one.ariaCurrent == 'true')")
    page("document.querySelector('video').play()")
    page.until("document.querySelector('video').currentTime > 4.3")

    assert [cue[:2] for cue in cues] == [[2 * index, 2 * index + 2] for index in range(WINDOWS)]
    assert all(text.startswith(f"Window {index} ") for index, (_, _, text) in enumerate(cues))
    assert 4.0 <= sought < 4.1
    assert marked == 2
    assert page("document.querySelectorAll('.timeline button')[2].dataset.tint") == "good"
    assert page.complaints() == []


def number_of(daemon: Daemon, name: str) -> str:
    """Return the name under which a clip's pages are, as the page learns it."""
    epoch = ""
    with httpx.stream("GET", f"{daemon.site}/events", timeout=60, trust_env=False) as stream:
        for line in stream.iter_lines():
            if not line.startswith("data: {"):
                continue
            data = json.loads(line.removeprefix("data: "))
            epoch = data.get("epoch", epoch)
            if data.get("message", {}).get("clip_name") == name:
                return f"{epoch}-{data['number']}"
    raise AssertionError(name)


@pytest.mark.parametrize("name", [NAME, MEMBER], ids=["file", "member"])
def test_ranges_of_the_clip_are_its_bytes(daemon: Daemon, name: str) -> None:
    whole = daemon.clip
    url = f"{daemon.site}/clips/{number_of(daemon, name)}/video"
    bearer = {"Authorization": f"Bearer {daemon.token}"}

    part = httpx.get(url, headers=bearer | {"Range": "bytes=100-199"}, timeout=60, trust_env=False)
    everything = httpx.get(url, headers=bearer, timeout=60, trust_env=False)
    without = httpx.get(url, timeout=60, trust_env=False)

    assert (part.status_code, part.content, part.headers["content-type"]) == (206, whole[100:200], "video/mp4")
    assert everything.content == whole
    assert (without.status_code, b"moov" in without.content) == (401, False)


def test_a_link_in_the_clips_place_is_not_followed(daemon: Daemon) -> None:
    url = f"{daemon.site}/clips/{number_of(daemon, 'bad.mp4')}/video"
    bearer = {"Authorization": f"Bearer {daemon.token}"}
    clip, aside = daemon.job.failed / "bad.mp4", daemon.job.folder / "aside"
    opened = httpx.get(url, headers=bearer, timeout=60, trust_env=False)
    os.rename(clip, aside)
    clip.symlink_to(aside)
    try:
        linked = httpx.get(url, headers=bearer, timeout=60, trust_env=False)
    finally:
        clip.unlink()
        os.rename(aside, clip)

    assert (opened.status_code, opened.content, linked.status_code) == (200, b"no video", 404)


def test_a_rejected_clip_shows_its_reason_and_goes_through_again(daemon: Daemon, opened: Callable[..., Page]) -> None:
    page = opened(daemon.site)  # without the token, but the browser has the session of the page before
    page.call("Network.clearBrowserCookies")
    page.open(daemon.site + "/?anew")
    open_clip(page, "bad.mp4")
    about = page("document.querySelector('#clip-about').textContent")
    is_disabled = page("document.querySelector('#replay').disabled")
    refused = page("fetch(document.location.origin + '/clips/x/replay', {method: 'POST'}).then(one => one.status)")

    page = opened(daemon.address)
    open_clip(page, "bad.mp4")
    before = len(daemon.job.messages("bad.mp4"))
    page("document.querySelector('#replay').click()")
    page.until("document.querySelector('#clip-said').textContent == 'The clip goes through again.'")
    page.until("[...document.querySelectorAll('.open')].filter(one => one.textContent == 'bad.mp4').length == 2")

    assert "rejected as not_a_video" in about
    assert (is_disabled, refused, before) == (True, 401, 1)
    daemon.running.until((daemon.job.captions / "bad.mp4.jsonl.old").exists)


def test_a_video_that_fails_late_leaves_what_is_said_of_the_replay(daemon: Daemon, opened: Callable[..., Page]) -> None:
    page = opened(daemon.address)
    open_clip(page)
    page("void (window.fetch = () => Promise.resolve(new Response('')))")  # nothing is sent
    page("document.querySelector('#replay').click()")
    page.until("document.querySelector('#clip-said').textContent == 'The clip goes through again.'")
    page("void document.querySelector('video').dispatchEvent(new Event('error'))")
    page.until("!document.querySelector('video')")

    assert page("document.querySelector('#clip-said').textContent") == "The clip goes through again."


def test_what_is_shown_is_there_after_a_restart(tmp_path: Path, daemon: Daemon, opened: Callable[..., Page]) -> None:
    """Another daemon over a copy of what the first one kept."""
    page = opened(daemon.address)
    page.until(f"document.querySelectorAll('.caption').length > {WINDOWS}")
    kept = daemon.job.folder / "state" / "page"
    daemon.running.until(lambda: sum(file.read_bytes().count(b"\n") for file in kept.glob("*.jsonl")) > WINDOWS)
    shutil.copytree(kept, tmp_path / "state" / "page")
    job = FolderJob(tmp_path, listen=f"127.0.0.1:{free_port()}")
    running = Running(job)
    running.until_logged("Ready")
    address = (tmp_path / "state" / "page-address").read_text().strip()
    page = opened(address)
    page.until(f"document.querySelectorAll('.caption').length > {WINDOWS}")
    page.until("document.querySelectorAll('img.strip').length > 0")
    running.terminate()

    assert running.end()[0] == 0
