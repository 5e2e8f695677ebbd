"""The rows of the fault matrix, and the table that a run prints."""

import itertools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass
class Result:
    """What one row ended with, over all its faults. ``twice_allowed`` is how many repeats the row's promise bears."""

    faults: int = 0
    windows: int = 0
    lost: int = 0
    twice: int = 0
    slowest_recovery_s: float = 0.0
    wrong: list[str] = field(default_factory=list)
    twice_allowed: int = 0

    @property
    def clean(self) -> bool:
        """Whether every promise held."""
        return not (self.lost or self.twice > self.twice_allowed or self.wrong)

    def add_recovery(self, took_s: float, limit_s: float, who: str, what: str = "a recovery") -> None:
        """Note the slowest recovery of a load, and that it is wrong where it took longer than it may."""
        self.slowest_recovery_s = max(self.slowest_recovery_s, took_s)
        if took_s > limit_s:
            self.wrong.append(f"{who}: {what} took {took_s:.1f} s")

    def add(self, other: "Result") -> None:
        """Count another load in."""
        self.faults += other.faults
        self.windows += other.windows
        self.lost += other.lost
        self.twice += other.twice
        self.twice_allowed += other.twice_allowed
        self.slowest_recovery_s = max(self.slowest_recovery_s, other.slowest_recovery_s)
        self.wrong += other.wrong


@dataclass(frozen=True)
class Row:
    """One row: ``run(faults, folder)`` strikes so many faults and says what was found.

    ``full`` and ``quick`` are how many faults `make chaos` and `make chaos-quick` strike; 0 leaves the row out. Rows
    that follow each other and have the same ``together`` run at once.
    """

    name: str
    fault: str
    full: int
    quick: int
    run: Callable[[int, Path], Result]
    together: str = ""


def run_rows(rows: Iterable[Row], runs_of: Callable[[Row], int], folder: Path) -> bool:
    """Run the rows, print the table, return whether all were clean."""
    console = Console(width=140)
    table = Table("row", "fault", "faults", "windows", "lost", "twice", "slowest recovery", "took", "verdict")
    clean = True
    struck = [row for row in rows if runs_of(row) > 0]
    for _, beside in itertools.groupby(struck, lambda row: row.together or row.name):
        group = list(beside)
        for row in group:
            console.print(f"{row.name}: {row.fault}, {runs_of(row)} faults ...")
        for row, (result, took_s) in zip(group, _run_together(group, runs_of, folder), strict=True):
            clean &= result.clean
            for line in result.wrong[:10]:
                console.print(f"  {line}", style="red", markup=False)
            table.add_row(
                row.name,
                row.fault,
                str(result.faults),
                str(result.windows),
                str(result.lost),
                str(result.twice),
                f"{result.slowest_recovery_s:.1f} s" if result.slowest_recovery_s else "-",
                f"{took_s:.0f} s",
                "held" if result.clean else "BROKEN",
            )
    console.print(table)
    return clean


def _run_together(rows: list[Row], runs_of: Callable[[Row], int], folder: Path) -> list[tuple[Result, float]]:
    """Run rows at once; one alone runs in this thread."""

    def run(row: Row) -> tuple[Result, float]:
        begun = time.monotonic()
        try:
            result = row.run(runs_of(row), folder / row.name.replace(" ", "-"))
        except Exception as error:
            result = Result(wrong=[f"it broke off: {type(error).__name__}: {error}"])
        return result, time.monotonic() - begun

    if len(rows) == 1:
        return [run(rows[0])]
    with ThreadPoolExecutor(len(rows)) as pool:
        return list(pool.map(run, rows))
