"""Kills, folder to folder: a load is struck again and again by new processes until a last one may finish it.

In K1 and K2 each kill is the machine's, which counts against no clip. In K6 a clip kills; in K7 the machine stays up.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from testing.load import WINDOWS_EACH, fill_inbox, write_config
from testing.power_cut import power_cut
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


def finish(
    config: Path,
    names: list[str],
    faults: int,
    slowest_s: float,
    *,
    rejected_at_most: int = 0,
    questions: Sequence[str | None] = (None,),
) -> Result:
    """Let a last process finish the load, then check what is there; so many clips may be taken for killers."""
    folder = config.parent
    last = daemon(config)
    code = last.wait(timeout=FINISH_S)
    killers, wrong = rejected_as_killers(folder)
    if len(killers) > rejected_at_most:
        wrong.append(f"{sorted(killers)} were rejected after {faults} kills")
    others = [name for name in names if name not in killers]
    found = folder_findings(others, folder / "inbox", folder / "captions" / "load", WINDOWS_EACH, questions)
    wrong += list(found.wrong) + ([f"the last daemon exited with {code}"] if code != 0 else [])
    return Result(faults, found.windows, found.lost, found.twice, slowest_s, wrong)


def rejected_as_killers(folder: Path) -> tuple[set[str], list[str]]:
    """Return the clips that were rejected as killers, and what is wrong with rejections."""
    failed, wrong = folder / "inbox" / "failed", list[str]()
    names = {str(path.relative_to(failed)) for path in failed.rglob("*.mp4")}
    for name in names:
        reason = json.loads((failed / f"{name}.reason.json").read_text())
        file = folder / "captions" / "load" / f"{name}.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        indices = [line["window"]["index"] for line in lines if "window" in line]
        if reason["reason"] != "killer" or indices != list(range(reason["next_window"])):
            wrong.append(f"{name} is rejected as {reason['reason']} at {reason['next_window']} after {indices}")
    return names, wrong


def killed_at(point: str, faults: int, folder: Path, clips: int = CLIPS, questions: Sequence[str] = ()) -> Result:
    """Strike one load at one named point, again and again; each window is asked so many questions."""
    folder.mkdir(parents=True)
    names = fill_inbox(folder / "inbox", clips)
    asked = ", ".join(f"{name}: {{text: 'What of {name}?'}}" for name in questions)
    config = write_config(folder, more=f"prompts: {{{asked}}}\n")
    draw = random.Random(f"{point}/{faults}")
    struck, slowest_s = 0, 0.0
    for _ in range(faults):
        process = daemon(config, point, str(draw.randint(1, max(2, clips // 20))))
        slowest_s = max(slowest_s, watch(process, folder / "captions", FINISH_S))
        struck += process.wait(timeout=FINISH_S) == EXIT_CODE
        power_cut(folder / "state")
    result = finish(config, names, struck, slowest_s, questions=questions or (None,))
    if struck == 0:
        result.wrong.append(f"{point} was never passed: nothing was struck")
    return result


def told_again_after(faults: int, folder: Path, clips: int = 72) -> Result:
    """Strike a load whose questions are told of the windows before; its captions are those of one that nobody struck.

    The engine's answers depend on the frames alone, so the same context gives the same ids.
    """
    told = "prompt: {text: 'Before: {previous}. And now?'}\ncontext: {windows: 2}\n"
    for name in ("struck", "undisturbed"):
        (folder / name).mkdir(parents=True)
    names = fill_inbox(folder / "struck" / "inbox", clips)
    shutil.copytree(folder / "struck" / "inbox", folder / "undisturbed" / "inbox")  # with its times: the same clips
    configs = {name: write_config(folder / name, delay_ms=100.0, more=told) for name in ("struck", "undisturbed")}
    assert daemon(configs["undisturbed"]).wait(timeout=FINISH_S) == 0
    draw, struck = random.Random(faults), 0
    for number in range(faults):
        process = daemon(configs["struck"], POINTS[number % len(POINTS)], str(draw.randint(1, 6)))
        struck += process.wait(timeout=FINISH_S) == EXIT_CODE
        power_cut(folder / "struck" / "state")
    result = finish(configs["struck"], names, struck, 0.0)
    for name in names:
        found, wanted = (context_of(folder / load / "captions" / "load" / f"{name}.jsonl") for load in configs)
        if found != wanted or [told for _, told in found] != [0, 1, *[2] * (WINDOWS_EACH - 2)]:
            result.wrong.append(f"{name} was told {found}, and undisturbed {wanted}")
    return result


def context_of(file: Path) -> list[tuple[str, int]]:
    """Return each caption's id and of how many windows its question was told."""
    return [(line["caption_id"], line["context_windows"]) for line in map(json.loads, file.read_text().splitlines())]


def killed_at_random(faults: int, folder: Path, clips: int = CLIPS, *, machine_stays: bool = False) -> Result:
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
        if not machine_stays:
            power_cut(folder / "state")
    return finish(config, names, struck, slowest_s, rejected_at_most=struck // 2 if machine_stays else 0)


def k1(faults: int, folder: Path) -> Result:
    """``faults`` kills at each of the twelve points, at most twenty to a load."""
    total = Result()
    for point in POINTS:
        for number, left in enumerate(range(faults, 0, -FAULTS_A_LOAD)):
            many = min(left, FAULTS_A_LOAD)
            clips = CLIPS if many > 2 else 24
            total.add(killed_at(point, many, folder / f"{point}-{number}", clips))
    return total


def k8(faults: int, folder: Path) -> Result:
    """``faults`` kills at each of the twelve points, with two questions a window."""
    total = Result()
    for point in POINTS:
        total.add(killed_at(point, faults, folder / point, 24, ("caption", "alert")))
    return total


def k2(faults: int, folder: Path) -> Result:
    """``faults`` kills at random times, at most twenty to a load."""
    total = Result()
    for number, left in enumerate(range(faults, 0, -FAULTS_A_LOAD)):
        many = min(left, FAULTS_A_LOAD)
        total.add(killed_at_random(many, folder / str(number), CLIPS if many > 2 else 24))
    return total


def k6(faults: int, folder: Path) -> Result:
    """A clip kills the program whenever it is described: it is rejected, and no other."""
    total = Result()
    for number in range(faults):
        at = folder / str(number)
        at.mkdir(parents=True)
        names, config = fill_inbox(at / "inbox", 24), write_config(at)
        killer = random.Random(number).choice(names)
        codes = list[int]()
        while len(codes) < 7 and (not codes or codes[-1] != 0):
            command = [sys.executable, "-m", "tests.pipeline.struck_daemon", str(config), "killed_at_engine", killer]
            with (at / "daemon.log").open("ab") as log:
                codes.append(subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False).returncode)
        result = finish(config, names, 1, 0.0, rejected_at_most=1)
        expected = [[-signal.SIGKILL] * ends + [0] for ends in range(2, 6)]
        if codes not in expected or rejected_as_killers(at)[0] != {killer}:
            result.wrong.append(f"{killer} ended daemons with {codes}; rejected are {rejected_as_killers(at)[0]}")
        total.add(result)
    return total


def k7(faults: int, folder: Path) -> Result:
    """``faults`` kills from outside while the machine stays up: two may cost the clip that is alone in both."""
    total = Result()
    for number, left in enumerate(range(faults, 0, -FAULTS_A_LOAD)):
        many = min(left, FAULTS_A_LOAD)
        total.add(killed_at_random(many, folder / str(number), CLIPS if many > 2 else 24, machine_stays=True))
    return total


ROWS = (
    Row("K1 folder", "kill -9 at each of 12 points", 20, 1, k1),
    Row("K8 folder", "kill -9 at each of 12 points, two questions a window", 2, 0, k8),
    Row("K9 folder", "kill -9 at 12 points, windows are told of those before", 50, 0, told_again_after),
    Row("K2 folder", "kill -9 at random times", 200, 0, k2),
    Row("K6 folder", "a clip kills the program", 5, 1, k6),
    Row("K7 folder", "kill -9 at random times, the machine stays up", 40, 0, k7),
)
