"""The rows of the fault matrix, and the table that a run prints."""

import time
from collections.abc import Callable, Iterable
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

    ``full`` and ``quick`` are how many faults `make chaos` and `make chaos-quick` strike; 0 leaves the row out.
    """

    name: str
    fault: str
    full: int
    quick: int
    run: Callable[[int, Path], Result]


def run_rows(rows: Iterable[Row], runs_of: Callable[[Row], int], folder: Path) -> bool:
    """Run rows one after the other, print the table, return whether all were clean."""
    console = Console(width=140)
    table = Table("row", "fault", "faults", "windows", "lost", "twice", "slowest recovery", "took", "verdict")
    clean = True
    for row in rows:
        runs = runs_of(row)
        if runs == 0:
            continue
        console.print(f"{row.name}: {row.fault}, {runs} faults ...")
        begun = time.monotonic()
        try:
            result = row.run(runs, folder / row.name.replace(" ", "-"))
        except Exception as error:
            result = Result(wrong=[f"it broke off: {type(error).__name__}: {error}"])
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
            f"{time.monotonic() - begun:.0f} s",
            "held" if result.clean else "BROKEN",
        )
    console.print(table)
    return clean
