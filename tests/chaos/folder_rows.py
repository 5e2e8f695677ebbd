"""Kills, folder to folder: a load is struck again and again by new processes until a last one may finish it."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from testing.load import WINDOWS_EACH, fill_inbox, write_config
from testing.repository import ROOT
from tests.chaos.invariants import folder_findings
from tests.chaos.kill_points import EXIT_CODE, POINTS
from tests.chaos.table import Result, Row

FAULTS_A_LOAD = 20
CLIPS = 200
FINISH_S = 300.0


def daemon(config: Path, *extra: str) -> subprocess.Popen[bytes]:
    """Start a daemon over a configuration; with ``extra`` it is killed at a point."""
    command = [sys.executable, "-m", "tests.chaos.run_daemon", str(config), *extra]
    log = (config.parent / "daemon.log").open("ab")
    try:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONHASHSEED": "0"})
    finally:
        log.close()


def lines_written(captions: Path) -> int:
    """Count what is in the output now."""
    return sum(file.read_bytes().count(b"\n") for file in captions.rglob("*.jsonl")) if captions.is_dir() else 0


def watch(process: "subprocess.Popen[bytes]", captions: Path, until_s: float) -> float:
    """Wait for a process to end, or for ``until_s``; return how long the first new caption took, 0 without one."""
    before, begun, recovery_s = lines_written(captions), time.monotonic(), 0.0
    while process.poll() is None and time.monotonic() - begun < until_s:
        if not recovery_s and lines_written(captions) > before:
            recovery_s = time.monotonic() - begun
        time.sleep(0.03)
    return recovery_s


def finish(config: Path, names: list[str], faults: int, slowest_s: float) -> Result:
    """Let a last process finish the load, then check what is there."""
    folder = config.parent
    last = daemon(config)
    code = last.wait(timeout=FINISH_S)
    found = folder_findings(names, folder / "inbox", folder / "captions" / "load", WINDOWS_EACH)
    wrong = list(found.wrong) + ([f"the last daemon exited with {code}"] if code != 0 else [])
    return Result(faults, found.windows, found.lost, found.twice, slowest_s, wrong)


def killed_at(point: str, faults: int, folder: Path, clips: int = CLIPS) -> Result:
    """Strike one load at one named point, again and again."""
    folder.mkdir(parents=True)
    names = fill_inbox(folder / "inbox", clips)
    config = write_config(folder)
    draw = random.Random(f"{point}/{faults}")
    struck, slowest_s = 0, 0.0
    for _ in range(faults):
        process = daemon(config, point, str(draw.randint(1, max(2, clips // 20))))
        slowest_s = max(slowest_s, watch(process, folder / "captions", FINISH_S))
        struck += process.wait(timeout=FINISH_S) == EXIT_CODE
    result = finish(config, names, struck, slowest_s)
    if struck == 0:
        result.wrong.append(f"{point} was never passed: nothing was struck")
    return result


def killed_at_random(faults: int, folder: Path, clips: int = CLIPS) -> Result:
    """Strike one load with SIGKILL, 0 to 3 s after each process was started."""
    folder.mkdir(parents=True)
    names = fill_inbox(folder / "inbox", clips)
    config = write_config(folder, delay_ms=400.0)  # slow enough that the load outlasts its faults
    draw = random.Random(faults)
    struck, slowest_s = 0, 0.0
    for _ in range(faults):
        process = daemon(config)
        slowest_s = max(slowest_s, watch(process, folder / "captions", draw.uniform(0, 3)))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            struck += 1
        process.wait()
    return finish(config, names, struck, slowest_s)


def k1(faults: int, folder: Path) -> Result:
    """``faults`` kills at each of the twelve points, at most twenty to a load."""
    total = Result()
    for point in POINTS:
        for number, left in enumerate(range(faults, 0, -FAULTS_A_LOAD)):
            many = min(left, FAULTS_A_LOAD)
            clips = CLIPS if many > 2 else 24
            total.add(killed_at(point, many, folder / f"{point}-{number}", clips))
    return total


def k2(faults: int, folder: Path) -> Result:
    """``faults`` kills at random times, at most twenty to a load."""
    total = Result()
    for number, left in enumerate(range(faults, 0, -FAULTS_A_LOAD)):
        many = min(left, FAULTS_A_LOAD)
        total.add(killed_at_random(many, folder / str(number), CLIPS if many > 2 else 24))
    return total


ROWS = (
    Row("K1 folder", "kill -9 at each of 12 points", 20, 0, k1),
    Row("K2 folder", "kill -9 at random times", 200, 0, k2),
)
