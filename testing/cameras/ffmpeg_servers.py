"""Streams that ffmpeg sends: MPEG-TS over UDP, RTMP to whoever connects, and HLS behind a small HTTP server."""

import shutil
import subprocess
import threading
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from testing.cameras.painted_frames import painted
from testing.ports import free_port

_WIDTH, _HEIGHT, _FPS = 256, 144, 25


class FfmpegCamera:
    """ffmpeg in a process of its own, fed with numbered frames in real time, or ``speed`` times as fast."""

    def __init__(self, output: list[str], *, gop: int = 25, speed: float = 1.0, codec: str = "libx264") -> None:
        self._output, self._gop, self._speed, self._codec = output, gop, speed, codec
        self.number = 0
        self._process = None
        self._feeder = None

    def __enter__(self) -> "FfmpegCamera":
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def start(self, *more: str) -> None:
        """Start it; frames are numbered on from where it was. ``more`` are options of this run's output."""
        of_x264 = ["-preset", "ultrafast", "-tune", "zerolatency"] if self._codec == "libx264" else []
        command = [
            *("/usr/bin/nice", shutil.which("ffmpeg"), "-loglevel", "error", "-readrate", str(self._speed)),
            *("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{_WIDTH}x{_HEIGHT}", "-r", str(_FPS), "-i", "-"),
            *("-c:v", self._codec, *of_x264, "-g", str(self._gop), "-sc_threshold", "0", "-b:v", "500k"),
            *(*more, *self._output),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._feeder = threading.Thread(target=self._feed, args=(self._process.stdin,), daemon=True)
        self._feeder.start()

    def _feed(self, pipe: object) -> None:
        with suppress(OSError, ValueError):
            while True:
                pipe.write(painted(self.number, _WIDTH, _HEIGHT))
                self.number += 1

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._feeder.join()
            with suppress(OSError):
                self._process.stdin.close()
            self._process = None


class UdpCamera(FfmpegCamera):
    """MPEG-TS over UDP, to whoever listens."""

    def __init__(self, **settings: object) -> None:
        self.url = f"udp://127.0.0.1:{free_port()}"
        super().__init__(["-f", "mpegts", f"{self.url}?pkt_size=1316"], **settings)


class RtmpCamera(FfmpegCamera):
    """RTMP: one player may connect, and the camera ends with it."""

    def __init__(self, **settings: object) -> None:
        self.url = f"rtmp://127.0.0.1:{free_port()}/live/door"
        super().__init__(["-f", "flv", "-listen", "1", self.url], **settings)


class HlsCamera(FfmpegCamera):
    """HLS segments of a second, with their dates, in ``folder`` behind an HTTP server."""

    def __init__(self, folder: Path, **settings: object) -> None:
        flags = "program_date_time+delete_segments+temp_file+append_list+omit_endlist"
        form = ["-f", "hls", "-hls_time", "1", "-hls_list_size", "6", "-hls_flags", flags]
        super().__init__([*form, str(folder / "live.m3u8")], **settings)
        handler = partial(_Quiet, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.to_cut = 0
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/live.m3u8"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def shut(self) -> None:
        """Answer that nothing is there."""
        self._server.is_shut = True

    def admit(self) -> None:
        """Answer again."""
        self._server.is_shut = False

    def cut_short(self, segments: int) -> None:
        """Send the first half of so many segments, as if each were the whole."""
        self._server.to_cut = segments

    @property
    def to_cut(self) -> int:
        """How many segments are still to be cut."""
        return self._server.to_cut

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._server.shutdown()
        self._server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if getattr(self.server, "is_shut", False):
            self.send_error(503)
        else:
            super().do_GET()

    def copyfile(self, source: object, outputfile: object) -> None:
        data = source.read()
        if self.path.endswith(".ts") and self.server.to_cut:
            self.server.to_cut -= 1
            data, self.close_connection = data[: len(data) // 2], True
        outputfile.write(data)

    def log_message(self, *_said: object) -> None:
        return
