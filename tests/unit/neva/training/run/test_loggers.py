"""TensorBoard's files and W&B's run get the numbers of the log; a stand-in takes W&B's place."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from connectors.errors import ConfigurationError
from neva.training.run.loggers import make_loggers
from neva.training.run.progress import TrainingProgress, draw_loss_curve
from neva.training.run.settings import ExpManagerSettings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def manager(folder: Path, **more: Any) -> ExpManagerSettings:
    return ExpManagerSettings.model_validate({"exp_dir": folder, **more})


def report(folder: Path, settings: ExpManagerSettings, first: int, last: int) -> None:
    with TrainingProgress(folder / "log.jsonl", loggers=make_loggers(settings, "a run")) as progress:
        progress.start("pretrain", first, 9)
        for step in range(first + 1, last + 1):
            progress.report(step, {"loss": 1 / step}, 1e-3)
        progress.report_validation(last, 0.5)


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard" / "pretrain"))
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(name)]


def test_tensorboard_gets_every_number_and_forgets_what_is_done_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    settings = manager(tmp_path, create_tensorboard_logger=True, summary_writer_kwargs={"flush_secs": 1})

    report(tmp_path, settings, 0, 5)
    report(tmp_path, settings, 3, 6)  # a run that goes on from the checkpoint after step 3

    assert [step for step, _ in scalars(tmp_path, "loss")] == [1, 2, 3, 4, 5, 6]
    assert dict(scalars(tmp_path, "val_loss")) == {6: 0.5}
    assert {step for step, _ in scalars(tmp_path, "lr")} == set(range(1, 7))


def test_tensorboard_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    with pytest.raises(ConfigurationError, match=r"create_tensorboard_logger: .*pip install tensorboard"):
        make_loggers(manager(tmp_path, create_tensorboard_logger=True), "a run")


class Wandb:
    """W&B's own functions, as far as they are called."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.logged: list[dict[str, Any]] = []
        self.finished = 0

    def init(self, **options: Any) -> Any:
        self.begun.append(options)
        return SimpleNamespace(define_metric=lambda *_, **__: None, log=self.logged.append, finish=self._finish)

    def _finish(self) -> None:
        self.finished += 1


def test_wandb_gets_the_numbers_and_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    said = {"project": "films", "name": None, "offline": True, "save_dir": "/tmp/w", "log_model": False}
    settings = manager(tmp_path, create_wandb_logger=True, wandb_logger_kwargs=said)

    report(tmp_path, settings, 0, 2)
    report(tmp_path, settings, 2, 3)

    assert {key: wandb.begun[0][key] for key in ("project", "name", "mode", "dir", "resume")} == {
        "project": "films",
        "name": "a run",
        "mode": "offline",
        "dir": "/tmp/w",
        "resume": "allow",
    }
    assert "log_model" not in wandb.begun[0]
    assert wandb.begun[0]["id"] == wandb.begun[1]["id"]
    assert [(entry["step"], entry.get("pretrain/loss"), entry.get("pretrain/val_loss")) for entry in wandb.logged] == [
        (1, 1.0, None),
        (2, 0.5, None),
        (2, None, 0.5),
        (3, 1 / 3, None),
        (3, None, 0.5),
    ]
    assert wandb.finished == 2


def test_wandb_is_never_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    settings = manager(tmp_path, create_wandb_logger=True)

    assert make_loggers(settings, "a run") == ()
    assert "wandb is not installed" in caplog.text


def test_wandb_that_does_not_begin_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_key(**_: Any) -> Any:
        raise RuntimeError("no API key configured")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=no_key))

    with pytest.raises(ConfigurationError, match="no API key configured; `wandb login`"):
        make_loggers(manager(tmp_path, create_wandb_logger=True), "a run")


def test_the_log_holds_losses_and_validation_and_both_are_drawn(tmp_path: Path) -> None:
    with TrainingProgress(tmp_path / "log.jsonl") as progress:
        progress.start("pretrain", 0, 2)
        progress.report(1, {"loss": float("nan")}, 1e-3)  # a step whose clips could not be read
        progress.report(2, {"loss": 2.0}, 1e-3)
        progress.report_validation(2, 3.0)

    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(record["step"], record.get("loss"), record.get("val_loss")) for record in records] == [
        (1, None, None),
        (2, 2.0, None),
        (2, None, 3.0),
    ]
    draw_loss_curve(tmp_path / "log.jsonl", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
