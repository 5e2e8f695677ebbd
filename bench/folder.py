"""Tiny clips from a folder to files of captions with the fake engine, beside a loop over PyAV that is as durable.

    python -m bench.folder [clips]

Both open each clip, decode its windows' frames, write a line for each window and cues, sync files and folders, and
rename the clip into done/. They take turns, in rounds, over the same clips. Start and stop are not counted.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import av

from bench.harness.daemon import daemon
from bench.harness.report import report
from daemon.telemetry.processor_time import processor_s_with_children
from testing.load import fill_inbox

CLIPS, ROUNDS, LEAST, PATIENCE_S = 400, 3, 0.6, 400.0
FRAMES, WINDOW_S = 2, 1.0


def sync(path: Path) -> None:
    """Make a file or a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def run_loop(inbox: Path, names: list[str], out: Path) -> tuple[float, float]:
    """Caption the clips as plainly as can be; return the seconds and the CPU seconds that it took."""
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    for name in names:
        lines, cues = [], ["WEBVTT\n\n"]
        with av.open(str(inbox / name)) as container:
            shown: dict[int, list[float]] = {}
            for frame in container.decode(video=0):
                window = int(frame.time // WINDOW_S)
                if len(shown.setdefault(window, [])) < FRAMES:
                    shown[window].append(float(frame.to_ndarray(format="rgb24").mean()))
        for window, means in shown.items():
            lines.append(json.dumps({"clip": name, "window": window, "text": str(means)}) + "\n")
            cues.append(f"00:00:{window:02d}.000 --> 00:00:{window + 1:02d}.000\n{means}\n\n")
        for suffix, text in ((".jsonl", lines), (".vtt", cues)):
            target = out / f"{name}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("".join(text))
            sync(target)
        sync(target.parent)
        done = inbox / "done" / name
        done.parent.mkdir(parents=True, exist_ok=True)
        (inbox / name).rename(done)
        sync(done.parent)
        sync((inbox / name).parent)
    return time.monotonic() - begun_s, time.process_time() - begun_cpu_s


def run_daemon(folder: Path, inbox: Path, clips: int) -> tuple[float, float]:
    """Let the daemon caption them; return the same."""
    config = folder / "config.yaml"
    config.write_text(
        f"sources:\n  inbox: {{kind: folder, path: '{inbox}', settle_s: 0.0}}\n"
        f"sink: {{kind: folder, path: '{folder / 'captions'}'}}\nengine: {{kind: fake}}\n"
        f"windows: {{window_s: {WINDOW_S}, min_tail_s: 0.5}}\nframes: {{num_frames: {FRAMES}}}\nhttp: null\n"
        f"state_dir: '{folder / 'state'}'\n"
    )
    with daemon(config) as process:
        begun_s, begun_cpu_s = time.monotonic(), processor_s_with_children(process.pid)
        while sum(len(files) for _, _, files in os.walk(inbox / "done")) < clips:
            if process.poll() is not None or time.monotonic() - begun_s > PATIENCE_S:
                raise RuntimeError(config.with_suffix(".log").read_text()[-2000:])
            time.sleep(0.05)
        return time.monotonic() - begun_s, processor_s_with_children(process.pid) - begun_cpu_s


def main() -> int:
    """Measure, and say whether the daemon is near enough to the loop."""
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else CLIPS
    rows: list[dict[str, float | str]] = []
    for number in range(1, ROUNDS + 1):
        with tempfile.TemporaryDirectory(prefix="captiond-folder-", dir=".") as place:
            folder = Path(place).absolute()
            loop_s, loop_cpu_s = run_loop(folder / "a", fill_inbox(folder / "a", clips), folder / "loop")
            fill_inbox(folder / "b", clips)
            ours_s, ours_cpu_s = run_daemon(folder, folder / "b", clips)
        row: dict[str, float | str] = {"round": str(number), "clips_s": clips / ours_s, "loop_clips_s": clips / loop_s}
        row |= {"ratio": loop_s / ours_s, "cpu_ms": ours_cpu_s / clips * 1000, "loop_cpu_ms": loop_cpu_s / clips * 1000}
        rows.append(row)
    report("folder", rows, x="round", ys=("clips_s", "loop_clips_s"))
    return 0 if sorted(float(row["ratio"]) for row in rows)[ROUNDS // 2] >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
