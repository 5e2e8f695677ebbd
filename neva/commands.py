"""The commands that Video NeVA adds to captiond's command line: pretrain, finetune, evaluate and import-nemo.

Nothing that is slow to import is imported before one of them runs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neva import registration

if TYPE_CHECKING:
    from neva.training.settings import Stage, TrainingSettings

_PRETRAIN = "Train the first stage: the projector, between a vision tower and a language model that stay as they are."
_FINETUNE = "Train the second stage: the language model and the projector."

_Config = Annotated[
    Path | None, typer.Option("-c", "--config", exists=True, dir_okay=False, help="the settings, NeVA's YAML")
]
_ConfigPath = Annotated[Path | None, typer.Option("--config-path", help="instead of -c: the folder of the YAML")]
_ConfigName = Annotated[str | None, typer.Option("--config-name", help="and its name, as NeVA's scripts take them")]
_Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="settings to override")]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="say what the run would need, from configurations and headers; load nothing")
]
_Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="override a key; repeatable")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``, and register the family's prompt templates and its bundled model."""
    registration.register()
    app.command("pretrain", help=_PRETRAIN)(_training_command("pretrain"))
    app.command("finetune", help=_FINETUNE)(_training_command("finetune"))
    app.command()(evaluate)
    app.command("import-nemo")(import_nemo)


def _training_command(stage: "Stage") -> Callable[..., None]:
    def command(
        overrides: _Overrides = None,
        config: _Config = None,
        config_path: _ConfigPath = None,
        config_name: _ConfigName = None,
        settings: _Set = None,
        dry_run: _DryRun = False,
    ) -> None:
        chosen = _training_settings(stage, config, config_path, config_name, [*(settings or ()), *(overrides or ())])
        if dry_run:
            from neva.training.devices.dry_run import dry_run as report

            for line in report(chosen, stage):
                typer.echo(line)
            return
        from neva.train import train  # torch and Accelerate, only once the settings are known to be right

        train(chosen, stage)

    return command


def _training_settings(
    stage: "Stage", path: Path | None, folder: Path | None, name: str | None, overrides: list[str]
) -> "TrainingSettings":
    import logging

    from neva.settings_file import config_file
    from neva.training.config_file import read_training_settings

    _set_up_log()
    if path is None and (folder is not None or name is not None):
        path = config_file(folder or Path(), name or f"neva_{stage}")
    settings, lines = read_training_settings(path, overrides, stage)
    for line in lines:
        logging.getLogger(__name__).info(line)
    return settings


def evaluate(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="overrides, as NeVA's scripts write them")
    ] = None,
    config_path: Annotated[Path | None, typer.Option("--config-path", help="the folder of NeVA's YAML")] = None,
    config_name: Annotated[
        str | None, typer.Option("--config-name", help="the YAML in it: neva_inference.yaml")
    ] = None,
    settings: _Set = None,
) -> None:
    """Answer the questions of a prompt file, with NeVA's own configuration keys."""
    import asyncio
    import logging

    from neva.evaluate.job import evaluate as answer
    from neva.evaluate.settings import read_evaluate_settings

    _set_up_log()
    chosen, lines = read_evaluate_settings(config_path, config_name, [*(settings or ()), *(overrides or ())])
    for line in lines:
        logging.getLogger(__name__).info(line)
    if code := asyncio.run(answer(chosen)):
        raise typer.Exit(int(code))


def import_nemo(
    source: Annotated[Path, typer.Argument(help="a .nemo file, or the folder of an extracted one", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="the model folder that is made", show_default=False)],
    base_model: Annotated[
        str | None, typer.Option("--base-model", help="the language model of a projector alone: .nemo, folder or name")
    ] = None,
    vision_tower: Annotated[
        str | None, typer.Option("--vision-tower", help="a folder or a Hugging Face name; else the checkpoint's own")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="a folder or a SentencePiece .model; else the checkpoint's own")
    ] = None,
    legacy_bgr: Annotated[
        bool | None,
        typer.Option(help="the model saw blue for red; else as the checkpoint's nemo_version says", show_default=False),
    ] = None,
) -> None:
    """Turn a Video NeVA of NeMo into a model folder that `engine.model` takes."""
    from neva.checkpoints.import_nemo import ImportRequest
    from neva.checkpoints.import_nemo import import_nemo as convert

    _set_up_log()
    convert(ImportRequest(source, out, base_model, vision_tower, tokenizer, legacy_bgr))


def _set_up_log() -> None:
    from daemon.config.settings import LogSettings
    from daemon.service import logs

    logs.set_up(LogSettings.model_validate({}))
