"""The wall clock jumps by an hour and by a day while clips are captioned: media time is no clock's business."""

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from testing.load import WINDOWS_EACH, fill_inbox, write_config
from testing.repository import ROOT
from tests.chaos.engine_rows import check
from tests.chaos.folder_rows import FINISH_S, lines_written
from tests.chaos.table import Result, Row

SHIFTS_S = (3_600, -3_600, 86_400, -86_400)
WINDOWS_A_JUMP = 30
JUMPS_A_LOAD = 20
_NS_PER_S = 1_000_000_000
_NOTICED_S = 1_800  # log lines that are further from the true time than this were written on a clock that jumped


def build_shim(folder: Path) -> Path:
    """Compile what moves a process's wall clock."""
    shim = folder / "clock_shim.so"
    source = Path(__file__).with_name("clock_shim.c")
    compiler = shutil.which("cc") or "/usr/bin/cc"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", shim, source], check=True)
    return shim


def set_clock(shift: Path, by_s: int) -> None:
    """Move the clock of whoever has mapped this file."""
    with shift.open("r+b") as file:
        file.write(struct.pack("=q", by_s))


def jumped(jumps: int, folder: Path) -> Result:
    """Strike one load with so many jumps."""
    folder.mkdir(parents=True)
    clips = 8 + jumps * WINDOWS_A_JUMP // WINDOWS_EACH
    names = fill_inbox(folder / "inbox", clips)
    config = write_config(folder, delay_ms=100.0)
    config.write_text(config.read_text().replace("log: {level: warning}", "log: {level: info, format: json}"))
    shift = folder / "shift"
    shift.write_bytes(struct.pack("=q", 0))
    environment = {**os.environ, "LD_PRELOAD": str(build_shim(folder)), "CLOCK_SHIFT": str(shift)}
    command = [sys.executable, "-m", "daemon", "run", "--once", "-c", str(config)]
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
    struck = 0
    while struck < jumps and process.poll() is None:
        if lines_written(folder / "captions") >= (struck + 1) * WINDOWS_A_JUMP:
            set_clock(shift, SHIFTS_S[struck % len(SHIFTS_S)])
            struck += 1
        time.sleep(0.01)
    code = process.wait(timeout=FINISH_S)
    result = check(config, names, struck, 0.0)
    result.wrong += [f"exit {code}"] if code else []
    result.wrong += [f"only {struck} of {jumps} jumps struck the load"] if struck < jumps else []
    result.wrong += _other_times(folder) + _unnoticed(folder, struck)
    return result


def _other_times(folder: Path) -> list[str]:
    """Return the windows whose span, or whose frames' times, are not what media time says."""
    wrong, frames = [], dict[int, list[int]]()
    for file in (folder / "captions").rglob("*.jsonl"):
        for message in map(json.loads, file.read_text().splitlines()):
            window, pts_ns = message["window"], message["frames"]["pts_ns"]
            index = window["index"]
            span = [window["start_ns"], window["exclusive_end_ns"]]
            if span != [index * _NS_PER_S, (index + 1) * _NS_PER_S] or frames.setdefault(index, pts_ns) != pts_ns:
                wrong.append(f"{file.name}: window {index} is {span} with frames at {pts_ns}")
    return wrong


def _unnoticed(folder: Path, struck: int) -> list[str]:
    """Return a complaint unless log lines were written on each of the clocks that the load was given."""
    begun_s = (folder / "shift").stat().st_ctime
    offsets = set()
    for line in (folder / "daemon.log").read_text().splitlines():
        with_zone = json.loads(line)["time"].replace("Z", "+00:00")
        off_s = datetime.fromisoformat(with_zone).timestamp() - begun_s
        offsets |= {by_s for by_s in SHIFTS_S[:struck] if abs(off_s - by_s) < _NOTICED_S}
    missing = set(SHIFTS_S[:struck]) - offsets
    return [f"nothing was logged while the clock was off by {sorted(missing)} s"] if missing else []


def c1(faults: int, folder: Path) -> Result:
    """``faults`` jumps, at most twenty to a load."""
    total = Result()
    for number, left in enumerate(range(faults, 0, -JUMPS_A_LOAD)):
        total.add(jumped(min(left, JUMPS_A_LOAD), folder / str(number)))
    return total


ROWS = (Row("C1", "the clock jumps by an hour and a day", 20, 2, c1),)
