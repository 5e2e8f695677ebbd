"""`captiond watch` prints a stream's captions as they come, and no password."""

import json
import os
import signal
import subprocess
import sys

import pytest

from testing.cameras.servers import CameraSettings, RtspCamera, why_no_rtsp
from testing.repository import ROOT

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_no_rtsp()), reason=why_no_rtsp() or "it is there"),
]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_stream_is_watched_until_it_is_interrupted(form: str) -> None:
    settings = ["engine.kind=fake", "windows.window_s=2", "limits.decoders=1"]
    with RtspCamera(CameraSettings(auth="digest")) as camera:
        login = f"{camera.settings.user}:{camera.settings.password}"
        url = f"rtsp://${{DOOR_LOGIN}}@127.0.0.1:{camera.port}/live"
        given = [part for one in settings for part in ("--set", one)]
        with subprocess.Popen(
            [sys.executable, "-m", "daemon", "watch", url, "--format", form, *given],
            cwd=ROOT,
            env={**os.environ, "DOOR_LOGIN": login},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watching:
            assert watching.stdout is not None
            said = []
            while sum("shows 8 frames" in line for line in said) < 2:
                line = watching.stdout.readline()
                assert line, watching.communicate()
                said.append(line)
            watching.send_signal(signal.SIGINT)
            rest, errors = watching.communicate(timeout=120)

    assert watching.returncode == 0, errors
    assert camera.settings.password not in "".join(said) + rest + errors
    if form == "json":
        indices = [json.loads(line)["stream"]["index"] for line in said]
        assert indices == list(range(indices[0], indices[0] + len(indices)))
