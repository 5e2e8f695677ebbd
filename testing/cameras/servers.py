"""The servers of live streams as objects that start, stop, hang and die."""

import json
import os
import signal
import subprocess
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"
_SERVER = Path(__file__).with_name("rtsp_server.py")
_PROBE = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


@cache
def why_no_rtsp() -> str:
    """Return why this machine has no RTSP server, for a skip; nothing where it has one."""
    try:
        done = subprocess.run([SYSTEM_PYTHON, "-c", _PROBE], capture_output=True, check=False)
    except OSError:
        return f"there is no {SYSTEM_PYTHON}"
    return "" if done.returncode == 0 else "Debian's gir1.2-gst-rtsp-server-1.0 and python3-gi are not installed"


@dataclass(frozen=True)
class CameraSettings:
    """What a camera sends, and whom it lets in."""

    fps: int = 25
    gop: int = 25
    bframes: int = 0
    codec: str = "h264"
    width: int = 256
    height: int = 144
    config_interval: int = 1
    loses_each: int = 0  # of so many packets of RTP one is lost on the way
    auth: str = ""
    user: str = "viewer"
    password: str = "pa55-w0rd-of-the-door"  # noqa: S105 - it protects nothing
    port: int = 0


class RtspCamera:
    """GStreamer's RTSP server in a process of its own. Its port stays its own through ends and starts."""

    def __init__(self, settings: CameraSettings | None = None) -> None:
        self.settings = settings or CameraSettings()
        self.port = self.settings.port
        self._process = None

    def __enter__(self) -> "RtspCamera":
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """The stream's URL, with the user and password where the camera asks for them."""
        login = f"{self.settings.user}:{self.settings.password}@" if self.settings.auth else ""
        return f"rtsp://{login}127.0.0.1:{self.port}/live"

    def start(self) -> None:
        """Start the server and wait until it listens."""
        self._process = subprocess.Popen(
            ["/usr/bin/nice", SYSTEM_PYTHON, str(_SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._process.stdin.write(json.dumps({**asdict(self.settings), "port": self.port}) + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError("the RTSP server did not start")
        self.port = int(said)

    def hang(self) -> None:
        """Let it neither send nor close."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again after a hang."""
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None
