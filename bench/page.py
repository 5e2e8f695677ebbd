"""The page's cost: the daemon's processor time a window with the page open in three browsers, against nobody.

    python -m bench.page [CLIPS] [ROUNDS]

Folder to folder, the fake engine without a delay, clips of 640 x 360 with windows of ten seconds and eight frames. The
ways take turns in each round, in an order that changes; the time is that of the daemon and all its decoders, between
ready and the last clip's end, over the windows. What counts is the ratio within a round. ``off`` keeps nothing for the
page (``web.keep: 0``), ``closed`` keeps it with nobody looking, ``open`` has three pages in one headless Chromium, with
the token; without a Chromium three readers follow the events.
"""

import contextlib
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from bench.harness.daemon import daemon
from bench.harness.painted import Painted
from bench.harness.report import Row, report
from daemon.telemetry.processor_time import processor_s_with_children
from testing import browser
from testing.ports import free_port

CLIPS, ROUNDS, READERS = 60, 3, 3
WAYS = ("off", "closed", "open")
TARGET = 1.05  # of open against closed
_SECONDS, _WINDOW_S = 20, 10
_PATIENCE_S = 900.0


def config(folder: Path, port: int, keep: int) -> Path:
    """Write a configuration and return it."""
    path = folder / "captiond.yaml"
    path.write_text(
        "sources:\n  inbox: {kind: folder, path: inbox, settle_s: 0.1, scan_s: 1.0}\n"
        "sink: {kind: folder, path: captions}\nengine: {kind: fake}\n"
        f"http: {{listen: '127.0.0.1:{port}'}}\nweb: {{keep: {keep}}}\n"
    )
    return path


@contextlib.contextmanager
def nobody(_: str, __: str) -> Iterator[None]:
    """Nobody looks."""
    yield


@contextlib.contextmanager
def three_pages(address: str, _: str) -> Iterator[None]:
    """Three pages of a browser are open."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        browser.browsing(Path(profile)) as new_page,
    ):
        for _page in range(READERS):
            page = new_page(1280, 900)
            page.open(address)
            page.until("document.querySelector('#headline').textContent == 'Ready'")
        yield


@contextlib.contextmanager
def three_readers(address: str, site: str) -> Iterator[None]:
    """Three programs read as pages do."""
    bearer, is_over = {"Authorization": f"Bearer {address.partition('token=')[2]}"}, threading.Event()

    def read() -> None:
        with (
            contextlib.suppress(httpx.HTTPError),
            httpx.stream("GET", f"{site}/events", headers=bearer, timeout=60, trust_env=False) as stream,
        ):
            for _ in stream.iter_lines():
                if is_over.is_set():
                    return

    threads = [threading.Thread(target=read, daemon=True) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    yield
    is_over.set()


def measure(way: str, clip: Path, clips: int) -> float:
    """Return the milliseconds of processor time that a window takes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, port = Path(temporary), free_port()
        (folder / "inbox").mkdir()
        looking = nobody if way != "open" else three_pages if browser.program() else three_readers
        with daemon(config(folder, port, 0 if way == "off" else 1000)) as process:
            address = (folder / "state" / "page-address").read_text().strip()
            with looking(address, f"http://127.0.0.1:{port}"):
                before_s = processor_s_with_children(process.pid)
                for number in range(clips):
                    shutil.copy(clip, folder / f"{number}.part")
                    (folder / f"{number}.part").rename(folder / "inbox" / f"{number}.mp4")
                until(lambda: len(list((folder / "inbox").glob("done/*.mp4"))) == clips)
                spent_s = processor_s_with_children(process.pid) - before_s
    return spent_s * 1000 / (clips * _SECONDS / _WINDOW_S)


def until(condition: Callable[[], bool]) -> None:
    """Return once a condition holds."""
    end_s = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError("the clips are not captioned")
        time.sleep(0.1)


def main() -> int:
    """Measure in turns; 0 when the page costs no more than it may."""
    clips, rounds = (int(given) for given in (*sys.argv[1:], *(str(CLIPS), str(ROUNDS))[len(sys.argv) - 1 :])[:2])
    with tempfile.TemporaryDirectory() as temporary:
        clip = Painted("h264", 30, 360, _SECONDS).made_in(Path(temporary))
        measure("off", clip, 4)  # what is compiled and cached by the first run
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(rounds):
            for way in WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]:
                found[way].append(measure(way, clip, clips))
                print(f"round {number + 1}, {way}: {found[way][-1]:.1f} ms a window", flush=True)
    rows: list[Row] = [
        {
            "page": way,
            "ms a window": statistics.median(found[way]),
            "against closed": statistics.median(
                mine / other for mine, other in zip(found[way], found["closed"], strict=True)
            ),
        }
        for way in WAYS
    ]
    report("page", rows, x="page", ys=["ms a window"])
    ratio = float(rows[WAYS.index("open")]["against closed"])
    print(f"With the page open in three browsers a window takes {ratio:.3f} times the processor time.")
    return 0 if ratio <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
