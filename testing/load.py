"""A load of small clips: each has six windows of one second."""

import io
import shutil
from pathlib import Path

import av
import numpy as np

WINDOWS_EACH = 6
_RATE = 4  # frames a second: enough for the frames of a window to differ, and cheap to decode


def write_load_clip(path: Path, windows: int = WINDOWS_EACH, side_px: int = 64) -> None:
    """Encode a clip of ``windows`` seconds whose brightness says which second it is."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_RATE, options={"preset": "ultrafast", "g": str(_RATE)})
        stream.width = stream.height = side_px
        stream.pix_fmt = "yuv420p"
        for number in range(windows * _RATE):
            grey = np.full((side_px, side_px, 3), 20 + number * 200 // (windows * _RATE), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(buffer.getvalue())


def fill_inbox(inbox: Path, count: int) -> list[str]:
    """Put ``count`` clips into a fresh inbox, some in a subfolder; return their names relative to it."""
    inbox.mkdir(parents=True)
    (inbox / "sub").mkdir()
    first = inbox / "c000.mp4"
    write_load_clip(first)
    names = [first.name]
    for number in range(1, count):
        name = f"sub/c{number:03d}.mp4" if number % 4 == 0 else f"c{number:03d}.mp4"
        shutil.copy(first, inbox / name)
        names.append(name)
    return names


def write_config(folder: Path, *, delay_ms: float = 50.0, script: str | None = None, more: str = "") -> Path:
    """Write a folder-to-folder configuration with the fake engine."""
    config = folder / "captiond.yaml"
    faults = f", script: {script}" if script else ""
    config.write_text(
        "sources:\n  load: {kind: folder, path: inbox, settle_s: 0.1, scan_s: 1.0}\n"
        "sink: {kind: folder, path: captions}\n"
        "windows: {window_s: 1.0, stride_s: 1.0, min_tail_s: 0.5}\n"
        "frames: {num_frames: 2}\n"
        f"engine: {{kind: fake, delay_ms: {delay_ms}, slots: 16{faults}}}\n"
        "limits: {max_clips_in_flight: 8}\n"
        f"http: null\nlog: {{level: warning}}\n{more}"
    )
    return config
