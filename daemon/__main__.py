"""The table of the command line: every command, its arguments, and the exit codes that errors mean.

What a command does stands in :mod:`daemon.commands`, which is imported when it runs. The commands about
captions that are there already, or of a live stream, are in :mod:`daemon.commands.results`.
"""

import atexit
import os
import sys
from collections.abc import Coroutine
from contextlib import closing
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from connectors.errors import CaptiondError, ConfigurationError, ExitCode, Fatal
from daemon import __version__
from daemon.commands import results
from daemon.commands.results import ConfigFile, MaybeConfigFile, Model, PromptText, Set, begin
from daemon.service import memory
from neva import commands as neva_commands

app = typer.Typer(name="captiond", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

# typer carries click under a private name, and shows only the errors at the leaves of its tree
CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]

Bare = Annotated[list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="overrides, as NeVA's scripts")]
Clips = Annotated[list[Path], typer.Argument(help="video or image files", show_default=False)]


CaptionForm = StrEnum("CaptionForm", ["TEXT", "JSON", "VTT"])  # what `caption` prints
PlanForm = StrEnum("PlanForm", ["TABLE", "JSON"])  # what `plan` and `bench` print


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version and exit")
    ] = False,
) -> None:
    return


@app.command()
def run(
    config: ConfigFile,
    overrides: Bare = None,
    once: Annotated[bool, typer.Option("--once", help="take what the sources hold now, finish it, exit")] = False,
    settings: Set = None,
) -> None:
    """Run the daemon."""
    import logging

    from connectors.routes import check_connectors
    from daemon.build import build_components
    from daemon.config.file import load
    from daemon.config.weak_settings import weak_settings
    from daemon.service import logs
    from daemon.supervisor import Supervisor
    from daemon.telemetry import tracing

    given = [*(settings or ()), *(overrides or ())]
    loaded = load(config, given)
    logs.set_up(loaded.log)
    tracing.set_up()
    for line in (*weak_settings(loaded), *check_connectors(loaded)):  # before a model is loaded for nothing
        logging.getLogger(__name__).warning("%s", line)

    async def work() -> ExitCode:
        return await Supervisor(build_components(loaded, once=once, read_again=lambda: load(config, given))).run()

    _exit_with(work())


@app.command()
def check(
    config: ConfigFile,
    overrides: Bare = None,
    engine: Annotated[bool, typer.Option("--engine", help="also ask the model's processor about tokens")] = False,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="also name each layer of the decoders' cage")] = False,
    settings: Set = None,
) -> None:
    """Print the effective configuration, secrets masked, and what it would do; exit 78 when it is wrong."""
    from daemon.decoding.fork_server import Launched

    with closing(Launched.now()) as decoders:  # it imports while this process does
        from daemon.commands.check import print_check
        from daemon.config.file import load

        loaded = load(config, [*(settings or ()), *(overrides or ())])
        print_check(loaded, ask_processor=engine, show_sandbox=sandbox, decoders=decoders)


@app.command()
def caption(
    clips: Clips,
    form: Annotated[CaptionForm, typer.Option("--format", help="what is printed")] = CaptionForm.TEXT,
    config: MaybeConfigFile = None,
    model: Model = None,
    prompt: PromptText = None,
    settings: Set = None,
) -> None:
    """Caption files at a terminal."""
    from daemon.commands.caption import caption
    from daemon.commands.one_shot import one_shot_settings

    if form is CaptionForm.VTT and len(clips) > 1:
        raise typer.BadParameter("--format vtt makes one WebVTT document: name one clip.")
    _exit_with(caption(one_shot_settings(config, settings, model, prompt), _existing(clips), form))


@app.command()
def plan(
    clips: Clips,
    form: Annotated[PlanForm, typer.Option("--format", help="what is printed")] = PlanForm.TABLE,
    tokens: Annotated[bool, typer.Option("--tokens/--no-tokens", help="ask the model's processor, or not")] = True,
    config: MaybeConfigFile = None,
    model: Model = None,
    prompt: PromptText = None,
    settings: Set = None,
) -> None:
    """Print windows, frames, tokens and bytes without loading a model."""
    from daemon.commands.one_shot import one_shot_settings
    from daemon.commands.plan import plan

    _exit_with(plan(one_shot_settings(config, settings, model, prompt), _existing(clips), form, with_tokens=tokens))


@app.command()
def sample(
    clips: Clips,
    out: Annotated[Path, typer.Option("--out", help="the folder for the pictures", show_default=False)],
    config: MaybeConfigFile = None,
    model: Model = None,
    settings: Set = None,
) -> None:
    """Write what the model sees as PNG: every frame of every window, and a contact sheet."""
    from daemon.commands.one_shot import one_shot_settings
    from daemon.commands.sample import sample

    _exit_with(sample(one_shot_settings(config, settings, model), _existing(clips), out))


@app.command()
def bench(
    clips: Clips,
    windows: Annotated[int, typer.Option("--windows", min=1, help="at least so many in each round")] = 64,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="the engine alone and the pipeline take turns")] = 3,
    host: Annotated[bool, typer.Option("--host", help="without the model: what this machine does for GPUs")] = False,
    form: Annotated[PlanForm, typer.Option("--format", help="what is printed")] = PlanForm.TABLE,
    config: MaybeConfigFile = None,
    model: Model = None,
    settings: Set = None,
) -> None:
    """Measure captions a second on this model and these clips, and what holds them up."""
    from daemon.commands.bench import bench
    from daemon.commands.one_shot import one_shot_settings

    _exit_with(bench(one_shot_settings(config, settings, model), _existing(clips), windows, rounds, form, host=host))


@app.command()
def schema(
    name: Annotated[str | None, typer.Argument(help="caption, rejection or reference; all of them if left out")] = None,
) -> None:
    """Print the JSON Schemas of the messages."""
    import json

    from connectors.messages.schema import schemas

    known = schemas()
    if name is not None and name not in known:
        raise typer.BadParameter(f"no schema {name!r}: there are {', '.join(known)}.")
    print(json.dumps(known if name is None else known[name], indent=2))


@app.command()
def status(
    config: MaybeConfigFile = None,
    listen: Annotated[str | None, typer.Option("--listen", metavar="HOST:PORT", help="instead of http.listen")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    settings: Set = None,
) -> None:
    """Print how a running daemon is; exit 1 when it is not ready or does not answer."""
    from daemon.commands.status import show
    from daemon.config.file import load
    from daemon.config.settings import HttpSettings

    http = load(config, settings or ()).http if config is not None else HttpSettings()
    at = listen or (http.listen if http is not None else None)
    if at is None:
        raise ConfigurationError("the daemon serves no status: name an address", path="http.listen")
    if (code := show(at, as_json=as_json)) != 0:
        raise typer.Exit(code)


@app.command()
def replay(
    config: ConfigFile,
    source: Annotated[str | None, typer.Option("--source", help="the dead letters of this source alone")] = None,
    to: Annotated[str | None, typer.Option("--to", help="this topic instead of the one they came from")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="at most so many")] = None,
    settings: Set = None,
) -> None:
    """Send dead letters through again."""
    from connectors.routes import replay_dead_letters
    from daemon.commands.terminal import say

    loaded = begin(config, settings)
    if source is not None and source not in loaded.sources:
        raise typer.BadParameter(f"no source {source!r}: there are {', '.join(loaded.sources)}.")
    say(replay_dead_letters(loaded, [source] if source else list(loaded.sources), to=to, limit=limit))


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _existing(clips: list[Path]) -> list[Path]:
    for clip in clips:
        if not clip.is_file():
            raise typer.BadParameter(f"{clip} is not a file.")
    return clips


def _exit_with(work: Coroutine[Any, Any, ExitCode]) -> None:
    import asyncio

    code = asyncio.run(work)
    if code is not ExitCode.CLEAN:
        raise typer.Exit(int(code))


results.register(app)  # score, redo, watch, record and enqueue

# The model family brings its commands, prompt templates and bundled model; only these lines name it.
neva_commands.register(app)


def main() -> None:
    """Run the command line; the exit codes are :class:`connectors.errors.ExitCode`."""
    memory.look_seldom()
    atexit.register(memory.leave_to_the_system)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it reads the entry points of all packages
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what a pipe's encoding does not have is written as its code
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run())


def _run() -> int:
    try:
        code = app(standalone_mode=False)
    except CommandLineError as error:
        _complain(f"captiond: {error}")
        return int(ExitCode.USAGE)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except ConfigurationError as error:
        _complain(f"captiond: the configuration is wrong.\n{error}", has_lines=True)
        return int(ExitCode.CONFIGURATION)
    except Fatal as error:
        _complain(f"captiond: {error}")
        return int(error.exit_code)
    except CaptiondError as error:
        _complain(f"captiond: {error}")
        return int(ExitCode.CLIP_FAILED)
    except BrokenPipeError:
        return 1  # whoever read what is printed has enough
    except (SystemExit, GeneratorExit):
        raise
    except BaseException:  # libraries in other languages panic with exceptions of their own
        import traceback

        traceback.print_exc()
        print("captiond: this is a bug: the lines above belong in its report.", file=sys.stderr)
        return int(ExitCode.BUG)
    return code if isinstance(code, int) else int(ExitCode.CLEAN)


def _complain(text: str, *, has_lines: bool = False) -> None:
    from daemon.commands.terminal import complain

    complain(text, has_lines=has_lines)


if __name__ == "__main__":
    main()
