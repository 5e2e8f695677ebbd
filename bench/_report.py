"""The report of a measurement: a table in the terminal, and the same as JSON and as a plot in build/bench/."""

import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path("build/bench")
Row = Mapping[str, float | str]


def report(name: str, rows: Sequence[Row], *, x: str, ys: Sequence[str], kind: str = "bar") -> None:
    """Print ``rows``, and write them and a plot of the columns ``ys`` over ``x``."""
    columns = list(rows[0])
    print("  ".join(f"{column:>18}" for column in columns))
    for row in rows:
        print("  ".join(f"{_text(row[column]):>18}" for column in columns))
    FOLDER.mkdir(parents=True, exist_ok=True)
    about = {
        "name": name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "load": os.getloadavg(),
        "rows": list(rows),
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(about, indent=2) + "\n")
    figure, axes = plt.subplots()
    for number, y in enumerate(ys):
        values = [float(row[y]) for row in rows]
        if kind == "bar":
            width = 0.8 / len(ys)
            axes.bar([at + number * width for at in range(len(rows))], values, width, label=y)
        else:
            axes.plot([float(row[x]) for row in rows], values, label=y)
    if kind == "bar":
        axes.set_xticks(range(len(rows)), [str(row[x]) for row in rows])
    axes.set_title(name)
    axes.legend()
    figure.savefig(FOLDER / f"{name}.png")
    plt.close(figure)


def _text(value: float | str) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else str(value)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of all is not above."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
