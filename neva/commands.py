"""The commands of the model family. Nothing heavy is imported until one of them runs."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of the Video NeVA family to ``app``."""
    app.command()(pretrain)


def pretrain(
    config: Annotated[Path, typer.Option("-c", "--config", exists=True, dir_okay=False, help="the settings, YAML")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="settings to override")] = None,
) -> None:
    """Train a Video NeVA from its settings, score it on held-out clips and export it."""
    import logging

    from neva.pretrain import pretrain as train

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(config, overrides or [])


def main() -> None:
    """Run the commands by themselves."""
    app = typer.Typer(no_args_is_help=True)
    app.callback()(lambda: None)
    register(app)
    app()


if __name__ == "__main__":
    main()
