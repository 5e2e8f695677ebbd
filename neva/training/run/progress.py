"""Reports of a training run: a progress bar with losses, speed and time left, a log, and the loss curve."""

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from neva.training.run.loggers import RunLogger

_NO_LOSS = frozenset({"stage", "step", "lr", "steps_per_s"})


class TrainingProgress:
    """Shows each stage as a bar on a terminal, as lines elsewhere, and appends every report to a JSON Lines log.

    ``loggers`` get the same numbers.
    """

    def __init__(self, log_path: Path, *, shown: bool = True, loggers: Sequence[RunLogger] = ()) -> None:
        self._log_path, self._shown, self._loggers = log_path, shown, loggers
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
        for logger in self._loggers:
            logger.close()

    def start(self, stage: str, first: int, steps: int) -> None:
        """Begin a stage of ``steps`` steps, ``first`` of which are done."""
        self._stage, self._first, self._steps, self._began_s = stage, first, steps, time.monotonic()
        if self._shown:
            self._remove_later_than(first)
        for logger in self._loggers:
            logger.start(stage, first)
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
        self._write(done, losses | {"lr": learning_rate, "steps_per_s": rate})
        numbers = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
        self._bars.update(self._bar, completed=done, numbers=f"{numbers} {rate:.2f} steps/s")
        if self._bars.disable:
            left_s = (self._steps - done) / rate
            place = f"{self._stage} {done}/{self._steps}"
            print(f"{place} {numbers} {rate:.2f} steps/s {left_s / 60:.1f} min left", flush=True)

    def report_validation(self, done: int, loss: float) -> None:
        """Show and log the loss on held-out data after ``done`` steps."""
        if not self._shown:
            return
        self._write(done, {"val_loss": loss})
        self._bars.console.print(f"{self._stage} {done}/{self._steps} val_loss {loss:.4f}", highlight=False)

    def _write(self, done: int, numbers: Mapping[str, float]) -> None:
        """Append a record to the log and hand it to the loggers; a number that is none is null, or left out."""
        said = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        with self._log_path.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"stage": self._stage, "step": done, **said}) + "\n")
        for logger in self._loggers:
            logger.report(self._stage, done, {name: value for name, value in said.items() if value is not None})


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
        for name in dict.fromkeys(key for row in rows for key in row if key not in _NO_LOSS):
            curve = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            panel.plot([step for step, _ in curve], [loss for _, loss in curve], label=name)
        panel.set(title=stage, xlabel="step", ylabel="loss", yscale="log")
        panel.legend()
    figure.savefig(png_path)
    pyplot.close(figure)
