"""TensorBoard and Weights & Biases, under NeMo's keys for them: each gets every number that the run's log gets."""

import importlib
import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from connectors.errors import ConfigurationError
from neva.training.run.settings import ExpManagerSettings

log = logging.getLogger(__name__)

# Keys of Lightning's logger that `wandb.init` has under other names, or not at all.
_RENAMED = {"save_dir": "dir", "version": "id"}
_LIGHTNINGS_OWN = frozenset({"log_model", "prefix", "experiment", "checkpoint_name"})


class RunLogger(Protocol):
    """A place for a run's numbers."""

    def start(self, stage: str, first: int) -> None:
        """Begin a stage, ``first`` steps of which are done; what was reported past them no longer counts."""

    def report(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        """Take the numbers of a step."""

    def close(self) -> None:
        """Write what is left."""


class TensorBoardLogger:
    """Event files in a folder of each stage."""

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        try:
            self._writer_of = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        except ImportError as error:
            raise ConfigurationError(
                "TensorBoard is not installed: pip install tensorboard, or captiond's extra `train`",
                path="exp_manager.create_tensorboard_logger",
            ) from error
        self._folder, self._options = folder, dict(options)
        self._writer: Any = None

    def start(self, stage: str, first: int) -> None:
        """Begin the stage's folder; TensorBoard shows what an interrupted run wrote past its checkpoint no more."""
        self.close()
        options = {"log_dir": str(self._folder / stage), "purge_step": first + 1 if first else None}
        self._writer = self._writer_of(**{**options, **self._options})

    def report(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        """Add each number under its name."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the stage's file."""
        if self._writer is not None:
            self._writer.close()


class WandbLogger:
    """One run of Weights & Biases, which goes on where the training does."""

    def __init__(self, wandb: Any, folder: Path, name: str, options: Mapping[str, Any]) -> None:
        said = {_RENAMED.get(key, key): value for key, value in options.items() if value is not None}
        if said.pop("offline", False):
            said["mode"] = "offline"
        for key in _LIGHTNINGS_OWN & said.keys():
            del said[key]
        chosen = {"project": name, "name": name, "dir": str(folder), "id": _kept_id(folder), "resume": "allow", **said}
        try:
            self._run = wandb.init(**chosen)
        except Exception as error:
            raise ConfigurationError(
                f"Weights & Biases can't begin: {error}; `wandb login`, or wandb_logger_kwargs.offline=true",
                path="exp_manager.create_wandb_logger",
            ) from error
        self._run.define_metric("*", step_metric="step")  # a run that goes on reports some steps again

    def start(self, stage: str, first: int) -> None:
        """Begin a stage."""

    def report(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        """Log each number under its stage's name and its own."""
        self._run.log({"step": step, **{f"{stage}/{name}": value for name, value in numbers.items()}})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def _kept_id(folder: Path) -> str:
    """Return the id of the run in ``folder``, a new one the first time."""
    path = folder / "wandb-id.txt"
    if not path.exists():
        path.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def make_loggers(manager: ExpManagerSettings, name: str) -> tuple[RunLogger, ...]:
    """Return the loggers that the settings ask for; one process of several makes them.

    Raises:
        ConfigurationError: TensorBoard is asked for and not installed, or W&B does not begin.
    """
    loggers: list[RunLogger] = []
    if manager.create_tensorboard_logger:
        loggers.append(TensorBoardLogger(manager.exp_dir / "tensorboard", manager.summary_writer_kwargs))
    if manager.create_wandb_logger:
        try:
            wandb = importlib.import_module("wandb")
        except ImportError:
            log.warning("exp_manager.create_wandb_logger: wandb is not installed, and nothing is sent to it.")
        else:
            loggers.append(WandbLogger(wandb, manager.exp_dir, name, manager.wandb_logger_kwargs))
    return tuple(loggers)
