"""The bundled model in the real vLLM, folder to folder: its engine is killed, then the daemon itself."""

import os
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


def write_config(
    folder: Path, *, clips_in_flight: int = CLIPS_IN_FLIGHT, replicas: int = 1, args: str = "", stall_s: float = 180.0
) -> Path:
    """Write a configuration whose captions take a while; ``args`` is more of ``engine.args``, after a comma."""
    config = folder / "captiond.yaml"
    config.write_text(
        "sources:\n  load: {kind: folder, path: inbox, settle_s: 0.1, scan_s: 1.0}\n"
        "sink: {kind: folder, path: captions}\n"
        "windows: {window_s: 1.0, stride_s: 1.0, min_tail_s: 0.5}\n"
        "frames: {num_frames: 2}\n"
        "generation: {min_tokens: 16, max_tokens: 16}\n"
        f"engine: {{kind: vllm, model: bundled, max_model_len: 1024, data_parallel_size: {replicas}, "
        f"args: {{enforce-eager: true, max-num-seqs: 2{args}}}}}\n"
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


ROWS = (Row("E6", "vLLM: its core is killed, then the daemon", 10, 0, e6),)
