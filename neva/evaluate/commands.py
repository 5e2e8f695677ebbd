"""The commands `evaluate` and `import-nemo`. Nothing heavy is imported until one of them runs."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

_Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="overrides, as NeVA's scripts write them")
]
_Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="override a key; repeatable")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(evaluate)
    app.command("import-nemo")(import_nemo)


def evaluate(
    overrides: _Overrides = None,
    config_path: Annotated[Path | None, typer.Option("--config-path", help="the folder of NeVA's YAML")] = None,
    config_name: Annotated[
        str | None, typer.Option("--config-name", help="the YAML in it: neva_inference.yaml")
    ] = None,
    settings: _Set = None,
) -> None:
    """Answer the questions of a prompt file, with NeVA's own configuration keys."""
    import logging

    from daemon.config.settings import LogSettings
    from daemon.service import logs
    from neva.evaluate.job import evaluate as answer
    from neva.evaluate.settings import read_evaluate_settings

    logs.set_up(LogSettings.model_validate({}))
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
        bool, typer.Option("--legacy-bgr", help="for checkpoints of NeVA's first generation (before NeMo's #9245)")
    ] = False,
) -> None:
    """Turn a Video NeVA of NeMo into a model folder that `engine.model` takes."""
    from daemon.config.settings import LogSettings
    from daemon.service import logs
    from neva.checkpoints.import_nemo import ImportRequest
    from neva.checkpoints.import_nemo import import_nemo as convert

    logs.set_up(LogSettings.model_validate({}))
    convert(ImportRequest(source, out, base_model, vision_tower, tokenizer, legacy_bgr))
