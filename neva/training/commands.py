"""The commands `pretrain` and `finetune`. Nothing heavy is imported until one of them runs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from neva.training.settings import Stage

_PRETRAIN = "Train the first stage: the projector, between a vision tower and a language model that stay as they are."
_FINETUNE = "Train the second stage: the language model and the projector."

_Config = Annotated[
    Path | None, typer.Option("-c", "--config", exists=True, dir_okay=False, help="the settings, NeVA's YAML")
]
_ConfigPath = Annotated[Path | None, typer.Option("--config-path", help="instead of -c: the folder of the YAML")]
_ConfigName = Annotated[str | None, typer.Option("--config-name", help="and its name, as NeVA's scripts take them")]
_Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="settings to override")]
_Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="override a key; repeatable")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("pretrain", help=_PRETRAIN)(_command("pretrain"))
    app.command("finetune", help=_FINETUNE)(_command("finetune"))


def _command(stage: "Stage") -> Callable[..., None]:
    def command(
        overrides: _Overrides = None,
        config: _Config = None,
        config_path: _ConfigPath = None,
        config_name: _ConfigName = None,
        settings: _Set = None,
    ) -> None:
        _train(stage, config, config_path, config_name, [*(settings or ()), *(overrides or ())])

    return command


def _train(stage: "Stage", path: Path | None, folder: Path | None, name: str | None, overrides: list[str]) -> None:
    import logging

    from daemon.config.settings import LogSettings
    from daemon.service import logs
    from neva.evaluate.settings import config_file
    from neva.training.config_file import read_training_settings

    logs.set_up(LogSettings.model_validate({}))
    if path is None and (folder is not None or name is not None):
        path = config_file(folder or Path(), name or f"neva_{stage}")
    settings, lines = read_training_settings(path, overrides, stage)
    for line in lines:
        logging.getLogger(__name__).info(line)
    from neva.training.train import train  # torch and Accelerate, only once the settings are known to be right

    train(settings, stage)
