"""The unit files, as systemd's own tools judge them. Nothing of the service runs."""

import json
import shutil
import subprocess
from pathlib import Path

from testing.repository import ROOT
from tests.chaos.table import Result, Row

UNITS = ("captiond.service", "captiond@.service")
RECORDERS = ("captiond-record.service", "captiond-record@.service")
GPU = Path("captiond.service.d/gpu.conf")
MOST_EXPOSURE = 20  # tenths
ANALYZE = "/usr/bin/systemd-analyze"
PROGRAM = "/opt/captiond/bin/captiond"


def stage(folder: Path, *, gpu: bool) -> list[Path]:
    """Put the units into a folder, with a program that is there in place of ours, and return them."""
    staged = []
    folder.mkdir(parents=True)
    for name in (*UNITS, *RECORDERS):
        (folder / name).write_text((ROOT / "systemd" / name).read_text().replace(PROGRAM, "/bin/true"))
        if gpu and name in UNITS:
            (folder / f"{name}.d").mkdir()
            shutil.copy(ROOT / "systemd" / GPU, folder / f"{name}.d")
        staged.append(folder / name)
    return staged


def analyze(*arguments: str) -> tuple[int, str]:
    """Return the exit code of `systemd-analyze` and what it said."""
    done = subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, check=False, cwd="/", timeout=60)
    return done.returncode, done.stdout + done.stderr


def open_doors(unit: Path) -> dict[str, float]:
    """Return what `systemd-analyze security` finds open, by name, with what each adds to the exposure."""
    _, said = analyze("security", "--offline=true", "--json=short", str(unit))
    rows = json.loads(said)
    return {row["name"]: float(row["exposure"]) for row in rows if row["set"] is False and row["exposure"]}


def findings(folder: Path) -> list[str]:
    """Return what is wrong with the units, with and without the drop-in for GPUs."""
    wrong = []
    for gpu in (False, True):
        staged = stage(folder / ("gpu" if gpu else "plain"), gpu=gpu)
        code, said = analyze("verify", *map(str, staged))
        if code or said:
            wrong.append(f"verify: {said}")
        for unit in staged:
            code, said = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(unit))
            if code:
                wrong.append(f"{unit.name}: {said.splitlines()[-1]}")
    return wrong


def u1(runs: int, folder: Path) -> Result:
    """Units that `verify` has nothing to say of, with an exposure of at most 2.0."""
    if not Path(ANALYZE).exists():
        return Result(0, wrong=[f"there is no {ANALYZE}"])
    return Result(runs, wrong=findings(folder))


ROWS = (Row("U1", "the units, as systemd judges them", 1, 1, u1),)
