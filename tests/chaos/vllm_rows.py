"""The bundled model in the real vLLM, folder to folder: its engine is killed, the daemon itself, or a replica hangs."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from daemon.engines.vllm.reaper import MARK, marked_processes
from testing.load import WINDOWS_EACH, fill_inbox
from testing.power_cut import power_cut
from testing.repository import ROOT
from tests.chaos.engine_rows import ENGINE_LOST, EXIT_S, check, run_once
from tests.chaos.folder_rows import FINISH_S, lines_written
from tests.chaos.table import Result, Row

GONE_S = 10.0  # after either death no process of the engine is left
CLIPS_IN_FLIGHT = 2
# clips that were in flight at a death run alone next; another death then would be their rejection, and rightly so
WINDOWS_OF_SUSPECTS = CLIPS_IN_FLIGHT * WINDOWS_EACH
STALL_S = 15.0  # of a replica that hangs
GIVE_UP_S = 60.0  # from the stall to the exit, on a busy machine: stacks are written, processes ended
# a replica that hangs keeps at most its half of the engine's slots: so many clips wait for it, and as many go on
CLIPS_BESIDE_A_HANG = 12
HANGING = re.compile(r"no progress of replica 1 \(of 2, from 0; it holds \d+ requests\)")


def write_config(
    folder: Path, *, clips_in_flight: int = CLIPS_IN_FLIGHT, engine: str = "", stall_s: float = 180.0
) -> Path:
    """Write a configuration whose captions take a while; ``engine`` is more of that section, with a comma behind it."""
    config = folder / "captiond.yaml"
    config.write_text(
        "sources:\n  load: {kind: folder, path: inbox, settle_s: 0.1, scan_s: 1.0}\n"
        "sink: {kind: folder, path: captions}\n"
        "windows: {window_s: 1.0, stride_s: 1.0, min_tail_s: 0.5}\n"
        "frames: {num_frames: 2}\n"
        "generation: {min_tokens: 16, max_tokens: 16}\n"
        f"engine: {{{engine}kind: vllm, model: bundled, max_model_len: 1024, "
        "args: {enforce-eager: true, max-num-seqs: 2}}\n"
        f"limits: {{max_clips_in_flight: {clips_in_flight}}}\n"
        f"timeouts: {{stall_s: {stall_s}}}\n"
        "http: null\nlog: {level: info}\n"
    )
    return config


def engine_of(pid: int) -> tuple[str, list[int]]:
    """Return the mark of a daemon's engine, and the processes that are its cores, one a replica."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [child for thread in threads for child in map(int, (thread / "children").read_text().split())]
    mark = next(filter(None, map(_mark_of, children)))
    cores = [one for one in marked_processes(mark) if "EngineCor" in Path(f"/proc/{one}/comm").read_text()]
    return mark, sorted(cores, key=lambda one: Path(f"/proc/{one}/cmdline").read_text())


def _mark_of(pid: int) -> str:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((entry.decode().partition("=")[2] for entry in entries if entry.startswith(f"{MARK}=".encode())), "")


def under_load(config: Path, windows: int) -> "subprocess.Popen[bytes]":
    """Start a daemon and return it when it has written so many captions, or has ended."""
    captions = config.parent / "captions"
    wanted = lines_written(captions) + windows
    command = [sys.executable, "-m", "daemon", "run", "--once", "-c", str(config)]
    with (config.parent / "daemon.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    deadline_s = time.monotonic() + FINISH_S
    while lines_written(captions) < wanted and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return process


def strike(config: Path, *, core: bool) -> tuple[list[str], float]:
    """Start a daemon, kill its engine's core or itself under load; return what is wrong and how long the end took."""
    process = under_load(config, WINDOWS_OF_SUSPECTS + 2 if core else 2)
    if process.poll() is not None:
        return [f"the load was over before it was struck: exit {process.returncode}"], 0.0
    mark, (engine,) = engine_of(process.pid)
    begun_s = time.monotonic()
    os.kill(engine if core else process.pid, signal.SIGKILL)
    code = process.wait(timeout=FINISH_S)
    power_cut(config.parent / "state")  # the kill of the daemon is no clip's doing
    took_s, wrong = time.monotonic() - begun_s, []
    if code != (ENGINE_LOST if core else -signal.SIGKILL) or took_s > EXIT_S:
        wrong.append(f"exit {code} after {took_s:.1f} s")
    while (left := marked_processes(mark)) and time.monotonic() - begun_s < took_s + GONE_S:
        time.sleep(0.1)
    if left:
        wrong.append(f"{len(left)} processes of the engine are left {GONE_S:g} s later")
    return wrong, time.monotonic() - begun_s


def e6(faults: int, folder: Path) -> Result:
    """``faults`` kills of one load, of the engine's core and of the daemon in turn."""
    folder.mkdir(parents=True)
    names = fill_inbox(folder / "inbox", 4 + 3 * faults)
    config = write_config(folder)
    wrong, slowest_s = [], 0.0
    for number in range(faults):
        said, took_s = strike(config, core=number % 2 == 0)
        wrong += said
        slowest_s = max(slowest_s, took_s)
    if (code := run_once(config)) != 0:
        wrong.append(f"the last daemon exited with {code}")
    result = check(config, names, faults, slowest_s)
    result.wrong += wrong
    return result


def hang(config: Path) -> tuple[list[str], float]:
    """Stop one of two replicas under load; return what is wrong and how long the daemon's end took."""
    captions, log = config.parent / "captions", config.parent / "daemon.log"
    process = under_load(config, 2)
    if process.poll() is not None:
        return [f"the load was over before it was struck: exit {process.returncode}"], 0.0
    mark, (_, second) = engine_of(process.pid)
    before, begun_s = lines_written(captions), time.monotonic()
    os.kill(second, signal.SIGSTOP)
    code = process.wait(timeout=FINISH_S)
    took_s, wrong = time.monotonic() - begun_s, []
    if code != ENGINE_LOST or took_s > STALL_S + GIVE_UP_S:
        wrong.append(f"exit {code} after {took_s:.1f} s")
    if (written := lines_written(captions) - before) < WINDOWS_EACH:
        wrong.append(f"{written} windows were captioned beside the replica that hung")
    if not HANGING.search(log.read_text()):
        wrong.append("the log does not say which replica hung")
    if left := marked_processes(mark):
        wrong.append(f"{len(left)} processes of the engine are left")
    return wrong, took_s


def e7(faults: int, folder: Path) -> Result:
    """One of two replicas is stopped while the other works: seen, exit 75, and nothing is lost after the restart."""
    total = Result()
    for number in range(faults):
        at = folder / str(number)
        at.mkdir(parents=True)
        names = fill_inbox(at / "inbox", 60)
        engine = "data_parallel_size: 2, "
        config = write_config(at, clips_in_flight=CLIPS_BESIDE_A_HANG, engine=engine, stall_s=STALL_S)
        wrong, took_s = hang(config)
        if (code := run_once(config)) != 0:
            wrong.append(f"the last daemon exited with {code}")
        result = check(config, names, 1, took_s)
        result.wrong += wrong
        total.add(result)
    return total


ROWS = (
    Row("E6", "vLLM: its core is killed, then the daemon", 10, 0, e6),
    Row("E7", "vLLM: one of two replicas hangs", 3, 0, e7),
)
