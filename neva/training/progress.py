"""Reports of a training run: a progress bar with losses, speed and time left, a log, and the loss curve."""

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TrainingProgress:
    """Shows each stage as a bar on a terminal, as lines elsewhere, and appends every report to a JSON Lines log."""

    def __init__(self, log_path: Path, *, shown: bool = True) -> None:
        self._log_path, self._shown = log_path, shown
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            disable=not (shown and sys.stderr.isatty()),
        )
        self._bar = self._bars.add_task("", total=None, numbers="")
        self._stage, self._first, self._steps, self._began_s = "", 0, 0, 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def start(self, stage: str, first: int, steps: int) -> None:
        """Begin a stage of ``steps`` steps, ``first`` of which are done."""
        self._stage, self._first, self._steps, self._began_s = stage, first, steps, time.monotonic()
        if self._shown:
            self._remove_later_than(first)
        self._bars.reset(self._bar, description=stage, total=steps, completed=first, numbers="")

    def _remove_later_than(self, step: int) -> None:
        """Remove the records of this stage after ``step`` that an interrupted run logged past its checkpoint."""
        if self._log_path.exists():
            lines = self._log_path.read_text(encoding="utf-8").splitlines(keepends=True)
            records = [(line, json.loads(line)) for line in lines]
            kept = [line for line, record in records if record["stage"] != self._stage or record["step"] <= step]
            self._log_path.write_text("".join(kept), encoding="utf-8")

    def report(self, done: int, losses: dict[str, float], learning_rate: float) -> None:
        """Show and log the losses after ``done`` steps; one of several processes does so."""
        if not self._shown:
            return
        spent_s = max(1e-9, time.monotonic() - self._began_s)
        rate = (done - self._first) / spent_s
        record = {"stage": self._stage, "step": done, **losses, "lr": learning_rate, "steps_per_s": rate}
        with self._log_path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        numbers = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
        self._bars.update(self._bar, completed=done, numbers=f"{numbers} {rate:.2f} steps/s")
        if self._bars.disable:
            left_s = (self._steps - done) / rate
            place = f"{self._stage} {done}/{self._steps}"
            print(f"{place} {numbers} {rate:.2f} steps/s {left_s / 60:.1f} min left", flush=True)


def draw_loss_curve(log_path: Path, png_path: Path) -> None:
    """Draw every loss in the log over the steps of its stage, one panel a stage."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    records = [json.loads(line) for line in log_path.read_text(encoding="utf-8").splitlines()]
    stages = list(dict.fromkeys(record["stage"] for record in records))
    figure, panels = pyplot.subplots(1, len(stages), figsize=(6 * len(stages), 4), squeeze=False, layout="constrained")
    for panel, stage in zip(panels[0], stages, strict=True):
        rows = [record for record in records if record["stage"] == stage]
        for name in [key for key in rows[0] if key not in {"stage", "step", "lr", "steps_per_s"}]:
            panel.plot([row["step"] for row in rows], [row[name] for row in rows], label=name)
        panel.set(title=stage, xlabel="step", ylabel="loss", yscale="log")
        panel.legend()
    figure.savefig(png_path)
    pyplot.close(figure)
