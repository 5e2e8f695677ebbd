"""Caption generated and real clips with the bundled model, folder to folder, on a page; print what came out."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from neva.shapes.scenes import HELD_OUT_SEEDS, film_of, write_demo_clips, write_film

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "build" / "demo"
REAL_CLIPS = ROOT / "build" / "clips"

_USUAL_PORT = 8480
_LOOK_S = 0.2
_PATIENCE_S = 900.0  # until every clip has ended; it takes half a minute on two idle cores


def fill_inbox(inbox: Path) -> int:
    """Draw three short clips and one of three scenes, and add the real clips; return how many there are."""
    write_demo_clips(inbox / "shapes", 3)
    write_film(inbox / "shapes" / "film.mp4", film_of(HELD_OUT_SEEDS[100:103], scene_s=10.0))
    (inbox / "real").mkdir()
    for clip in sorted(REAL_CLIPS.glob("*.mp4")):
        shutil.copy(clip, inbox / "real" / clip.name)
    return sum(path.is_file() for path in inbox.rglob("*"))


def show(captions: Path) -> int:
    """Print each clip's captions with their times; return how many there are."""
    count = 0
    for file in sorted(captions.rglob("*.jsonl")):
        print(f"\n{file.relative_to(captions).with_suffix('')}")
        for line in file.read_text().splitlines():
            message = json.loads(line)
            if message["type"] != "captiond.caption.v1":
                continue
            span = message["window"]
            print(f"  {span['start_ns'] / 1e9:7.2f} s - {span['exclusive_end_ns'] / 1e9:6.2f} s  {message['text']}")
            count += 1
    return count


def free_port() -> int:
    """Return the usual port, or another where that is taken."""
    for port in (_USUAL_PORT, 0):
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = tried.getsockname()[1]
            return found
    raise OSError("no port is free")


def page_address(daemon: "subprocess.Popen[bytes]", port: int) -> str:
    """Return the page's address with its token once it is served; an empty text where the daemon ended before."""
    address = DEMO / "state" / "page-address"
    while daemon.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/livez", timeout=10, trust_env=False)
            return address.read_text().strip()
        except (httpx.HTTPError, OSError):
            time.sleep(_LOOK_S)
    return ""


def wait_for_clips(daemon: "subprocess.Popen[bytes]", count: int) -> None:
    """Return once every clip has ended, or the daemon has."""
    end_s = time.monotonic() + _PATIENCE_S
    ended = 0
    while daemon.poll() is None and ended < count and time.monotonic() < end_s:
        time.sleep(_LOOK_S)
        found = [path for end in ("done", "failed") for path in (DEMO / "inbox" / end).rglob("*") if path.is_file()]
        ended = sum(not path.name.endswith(".reason.json") for path in found)


def stopped(daemon: "subprocess.Popen[bytes]") -> int:
    """Stop the daemon as its service manager would, and return its exit code."""
    if daemon.poll() is None:
        daemon.send_signal(signal.SIGTERM)
    return daemon.wait()


def main() -> int:
    """Run the daemon over a fresh inbox until every clip has ended; 0 when each was captioned.

    With KEEP=1 in the environment the page is served until Ctrl+C.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # as Ctrl+C: the daemon is not left behind
    shutil.rmtree(DEMO, ignore_errors=True)
    count, port = fill_inbox(DEMO / "inbox"), free_port()
    config = DEMO / "captiond.yaml"
    config.write_text(
        "sources:\n  inbox: {kind: folder, path: inbox, settle_s: 0.1, scan_s: 1.0}\n"
        "sink: {kind: folder, path: captions}\nengine: {model: bundled}\n"
        f'http: {{listen: "127.0.0.1:{port}"}}\nlog: {{level: warning}}\n'
    )
    # a session of its own: Ctrl+C is ours to answer
    daemon = subprocess.Popen(
        [sys.executable, "-m", "daemon", "run", "-c", str(config)], cwd=ROOT, start_new_session=True
    )
    captions = 0
    try:
        if address := page_address(daemon, port):
            print(f"The page: {address}\n\nThe model is loaded, and {count} clips are captioned.", flush=True)
        wait_for_clips(daemon, count)
        captions = show(DEMO / "captions")
        if captions and os.environ.get("KEEP") and daemon.poll() is None:
            print(f"\nThe page stays: {address}\nCtrl+C ends it.", flush=True)
            daemon.wait()
    except KeyboardInterrupt:
        print()
    finally:
        code = stopped(daemon)
    if code != 0:
        return code
    print(f"\n{captions} captions in {DEMO / 'captions'}, as JSON Lines and as WebVTT beside them.")
    print("The bundled model says how light a clip is, its main colours, how the camera moves, how much else moves and")
    print(
        "where, cuts, fades and black, and it knows coloured shapes that move. It names no thing and no person, and it"
    )
    print("errs: neva/bundled/README.md has the share of each kind of statement that is right.")
    print("To name a real model: captiond caption CLIP --model FOLDER_OR_NAME")
    return 0 if captions and not any((DEMO / "inbox" / "failed").rglob("*")) else 1


if __name__ == "__main__":
    sys.exit(main())
