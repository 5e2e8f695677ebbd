"""Engines that die, hang, keep a request for ever, or fall over one clip: folder to folder, with real processes."""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from testing.load import WINDOWS_EACH, fill_inbox, write_config
from testing.repository import ROOT
from tests.chaos.folder_rows import FINISH_S
from tests.chaos.invariants import folder_findings
from tests.chaos.table import Result, Row

CLIPS = 40
LATE_S = 1.0  # how late a ping may be on a busy machine
ENGINE_LOST = 75
EXIT_S = 15.0  # from a fault to the exit of the program
STALL_S, DEADLINE_S = 3.0, 2.0  # the configuration's 180 and 120 s, sixty times faster


def run_once(config: Path, *extra: str) -> int:
    """Let a daemon take what is there, and return how it ended."""
    command = [sys.executable, "-m", "daemon", "run", "--once", "-c", str(config), *extra]
    with (config.parent / "daemon.log").open("ab") as log:
        return subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, timeout=FINISH_S, check=False).returncode


def load(folder: Path, clips: int = CLIPS, *, delay_ms: float = 10.0) -> tuple[Path, list[str]]:
    """Fill an inbox, and write a configuration whose engine follows the script beside it."""
    names = fill_inbox(folder / "inbox", clips)
    (folder / "faults.yaml").write_text("{}\n")
    config = write_config(folder, delay_ms=delay_ms, script="faults.yaml")
    more = f"timeouts: {{stall_s: {STALL_S}, request_deadline_s: {DEADLINE_S}, max_attempts: 3}}\n"
    config.write_text(config.read_text() + more)
    return config, names


def clip_ids(config: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the ids that the finished clips' captions carry, by name."""
    captions = config.parent / "captions" / "load"
    return {name: json.loads((captions / f"{name}.jsonl").read_text().splitlines()[0])["clip_id"] for name in names}


def check(config: Path, names: Sequence[str], faults: int, slowest_s: float) -> Result:
    """Check what a finished load left behind."""
    folder = config.parent
    found = folder_findings(names, folder / "inbox", folder / "captions" / "load", WINDOWS_EACH)
    return Result(faults, found.windows, found.lost, found.twice, slowest_s, list(found.wrong))


def struck(faults: int, folder: Path, fault: str, expected_s: float) -> Result:
    """Strike loads with ``fault: REQUEST``; each fault is a program that must end with exit 75 in time.

    A clip that was in flight at a death runs alone next and is rejected if the engine dies again then, so the next
    fault waits until those have ended: eight clips in flight have at most 48 windows.
    """
    total = Result()
    for number, left in enumerate(range(faults, 0, -3)):
        config, names = load(folder / str(number))
        draw, slowest_s, many = random.Random(f"{fault}/{number}"), 0.0, min(left, 3)
        wrong = []
        for struck_before in range(many):
            at = draw.randint(52, 65) if struck_before else draw.randint(1, 65)
            struck_at = config.parent / f"struck-{struck_before}"  # made by the engine when the fault strikes
            (config.parent / "faults.yaml").write_text(f"{fault}: {at}\nonce: {struck_at}\n")
            code = run_once(config)
            took_s = time.time() - struck_at.stat().st_mtime if struck_at.exists() else FINISH_S
            slowest_s = max(slowest_s, took_s)
            if code != ENGINE_LOST or took_s > expected_s:
                wrong.append(f"{fault} at request {at}: exit {code} after {took_s:.1f} s")
        (config.parent / "faults.yaml").write_text("{}\n")
        if (code := run_once(config)) != 0:
            wrong.append(f"the last daemon exited with {code}")
        result = check(config, names, many, slowest_s)
        result.wrong += wrong
        total.add(result)
    return total


def e1(faults: int, folder: Path) -> Result:
    """The engine dies at some request."""
    return struck(faults, folder, "die_at_request", EXIT_S)


def e2(faults: int, folder: Path) -> Result:
    """The engine hangs while its health is green: stacks in the log, then exit 75."""
    total = struck(faults, folder, "hang_at_request", EXIT_S + STALL_S)
    dumps = sum(log.read_text().count("No progress of the engine") for log in folder.rglob("daemon.log"))
    if dumps < faults:
        total.wrong.append(f"stacks were dumped {dumps} times for {faults} stalls")
    return total


def one_bad_clip(folder: Path, fault: str, deaths: int, reason: str) -> Result:
    """One clip with a fault among many: it alone is rejected, with its reason, after so many deaths.

    Where nobody dies, the others must be at work through three deadlines and the pauses between them, some 9 s: an
    engine that holds nothing but what never returns counts as dead.
    """
    config, names = load(folder, clips=12) if deaths else load(folder, clips=80, delay_ms=500.0)
    known, _ = load(folder / "known", clips=1)
    bad = names[5]
    # a clip's id holds its path, size and time of change, so a copy that keeps them has the same one
    clip = folder / "inbox" / bad
    twin = folder / "known" / "inbox" / bad
    twin.parent.mkdir(parents=True, exist_ok=True)
    twin.write_bytes(clip.read_bytes())
    os.utime(twin, ns=(clip.stat().st_mtime_ns, clip.stat().st_mtime_ns))
    run_once(known)
    (folder / "faults.yaml").write_text(f"{fault}: [{clip_ids(known, [bad])[bad]}]\n")
    codes, begun = [run_once(config)], time.monotonic()
    while codes[-1] == ENGINE_LOST and len(codes) < 6:
        codes.append(run_once(config))
    result = check(config, [name for name in names if name != bad], 1, time.monotonic() - begun)
    if codes != [ENGINE_LOST] * deaths + [0]:
        result.wrong.append(f"exits {codes}, not {deaths} deaths and an end")
    note = folder / "inbox" / "failed" / f"{bad}.reason.json"
    if not note.is_file() or json.loads(note.read_text())["reason"] != reason:
        result.wrong.append(f"{bad} is not rejected as {reason}")
    return result


def e3(faults: int, folder: Path) -> Result:
    """A request never returns while others do: that clip is tried three times, then rejected."""
    return _each(faults, folder, lambda at: one_bad_clip(at, "never_returns", 0, "engine_deadline"))


def e4(faults: int, folder: Path) -> Result:
    """A clip kills the engine whenever it is there: rejected after the second death, alone; its neighbours never."""
    return _each(faults, folder, lambda at: one_bad_clip(at, "kills", 2, "engine_killer"))


def e5(windows: int, folder: Path) -> Result:
    """Answers out of order, empty and cut off: order holds, and each is recorded as what it is."""
    clips = max(1, windows // WINDOWS_EACH)
    config, names = load(folder, clips=clips)
    (folder / "faults.yaml").write_text('reverse_by: 5\nempty: ["/1/"]\ncut_off: ["/2/"]\n')
    code = run_once(config)
    result = check(config, names, windows, 0.0)
    if code != 0:
        result.wrong.append(f"exit {code}")
    expected = Counter({"success": 4 * clips, "empty": clips, "truncated": clips})
    captions = [file.read_text().splitlines() for file in (folder / "captions").rglob("*.jsonl")]
    found = Counter(json.loads(line)["status"] for lines in captions for line in lines)
    if found != expected:
        result.wrong.append(f"statuses {dict(found)}, not {dict(expected)}")
    return result


def u2(runs: int, folder: Path) -> Result:
    """The words to the service manager: READY after the start, STOPPING first on SIGTERM, no ping in a stall."""
    return _each(runs, folder, _words)


def _words(folder: Path) -> Result:
    config, names = load(folder, clips=8)
    struck = folder / "struck"
    (folder / "faults.yaml").write_text(f"hang_at_request: 20\nonce: {struck}\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        address = Path(tempfile.gettempdir()) / f"captiond-u2-{os.getpid()}"  # a socket's path is short
        address.unlink(missing_ok=True)
        listening.bind(str(address))
        listening.settimeout(FINISH_S)
        environment = {**os.environ, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "1000000"}
        command = [sys.executable, "-m", "daemon", "run", "-c", str(config)]
        heard: list[tuple[float, str]] = []
        with (folder / "daemon.log").open("ab") as log:
            stalling = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
            while not heard or heard[-1][1] != "STOPPING=1":
                heard.append((time.time(), listening.recv(4096).decode()))
            code = stalling.wait(timeout=FINISH_S)
            (folder / "faults.yaml").write_text("{}\n")
            stopped = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
            while listening.recv(4096) != b"READY=1":
                pass
            stopped.terminate()
            while (word := listening.recv(4096).decode()).startswith(("STATUS=", "WATCHDOG=1")):
                pass
            ended = stopped.wait(timeout=FINISH_S)
        address.unlink()
    finish = run_once(config)
    result = check(config, names, 1, 0.0)
    words = [said for _, said in heard]
    ready = words.index("READY=1") if "READY=1" in words else -1
    if ready < 0 or any(said.startswith("EXTEND_TIMEOUT_USEC") for said in words[ready:]):
        result.wrong.append(f"READY came at {ready} of {words[:8]}")
    pings_s = [at_s - struck.stat().st_mtime for at_s, said in heard if said == "WATCHDOG=1"]
    if not pings_s or pings_s[-1] > STALL_S + LATE_S:
        result.wrong.append(f"the last ping came {max(pings_s, default=0.0):.1f} s after the engine stood still")
    if (code, word, ended, finish) != (ENGINE_LOST, "STOPPING=1", 0, 0):
        result.wrong.append(f"the stall ended with {code}; SIGTERM was answered {word!r}, then exit {ended}, {finish}")
    return result


def _each(faults: int, folder: Path, run: Callable[[Path], Result]) -> Result:
    total = Result()
    for number in range(faults):
        at = folder / str(number)
        at.mkdir(parents=True)
        total.add(run(at))
    return total


ROWS = (
    Row("E1", "the engine dies at some request", 50, 1, e1),
    Row("E2", "the engine hangs, health green", 20, 1, e2),
    Row("E3", "a request never returns", 20, 1, e3),
    Row("E4", "a clip that kills engines", 5, 1, e4),
    Row("E5", "answers out of order, empty, cut off", 500, 120, e5),
    Row("U2", "the words to the service manager", 6, 1, u2),
)
