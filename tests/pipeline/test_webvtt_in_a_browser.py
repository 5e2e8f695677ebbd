"""The WebVTT file loads as a track beside its video, in a real Chromium."""

import html
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from functools import partial
from pathlib import Path

import pytest

from testing.load import write_load_clip
from tests.pipeline.daemon_process import FolderJob

PAGE = """<!doctype html><meta charset="utf-8">
<video id="video" src="clip.mp4" muted><track id="track" default kind="captions" src="clip.mp4.vtt"></video>
<pre id="found"></pre>
<script>
const track = document.getElementById("track");
track.track.mode = "showing";
const say = (value) => { document.getElementById("found").textContent = JSON.stringify(value); };
track.addEventListener("error", () => say({error: "the track does not load"}));
track.addEventListener("load", () => say({
  cues: Array.from(track.track.cues, (cue) => [cue.startTime, cue.endTime, cue.text]),
}));
</script>
"""


def chromium() -> str:
    """Return the browser; without one the test is skipped, and in CI it fails."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        sentence = "no Chromium: install Debian's package chromium to run this test"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    return found


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.timeout(180)
def test_the_track_loads_beside_its_video(tmp_path: Path) -> None:
    browser = chromium()
    job = FolderJob(tmp_path)
    write_load_clip(job.inbox / "clip.mp4", windows=3, side_px=128)
    job.run_once()
    site = tmp_path / "site"
    site.mkdir()
    shutil.copy(job.captions / "clip.mp4.vtt", site)
    shutil.copy(job.done / "clip.mp4", site)
    (site / "index.html").write_text(PAGE)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom"]
        address = f"http://127.0.0.1:{server.server_address[1]}/index.html"
        shown = subprocess.run([*command, address], capture_output=True, text=True, timeout=120, check=True)
    finally:
        server.shutdown()
        server.server_close()

    found = re.search(r'<pre id="found">(.*?)</pre>', shown.stdout, re.DOTALL)
    assert found is not None
    cues = json.loads(html.unescape(found[1]))["cues"]
    assert [(start, end) for start, end, _ in cues] == [(0, 1), (1, 2), (2, 3)]
    assert all(text.startswith(f"Window {index} ") for index, (_, _, text) in enumerate(cues))
