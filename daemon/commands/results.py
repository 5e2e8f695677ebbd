"""The commands beside the daemon's own work: captions scored, clips sent again, streams watched or recorded."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from daemon.config.settings import Settings

ConfigFile = Annotated[Path, typer.Option("-c", "--config", help="the YAML configuration", show_default=False)]
MaybeConfigFile = Annotated[Path | None, typer.Option("-c", "--config", help="the YAML configuration, or the defaults")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="override a key; repeatable")]
Model = Annotated[str | None, typer.Option("--model", help="short for --set engine.model=...")]
PromptText = Annotated[str | None, typer.Option("--prompt", help="short for --set prompt.text=...")]

ScoreForm = StrEnum("ScoreForm", ["TABLE", "JSON"])  # what `score` prints
WatchForm = StrEnum("WatchForm", ["TEXT", "JSON"])  # what `watch` prints
Transport = StrEnum("Transport", ["TCP", "UDP"])


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(score)
    app.command()(redo)
    app.command()(watch)
    app.command()(record)
    app.command()(enqueue)


def begin(config: Path, given: Sequence[str] | None) -> "Settings":
    """Load a configuration, and log as it says."""
    from daemon.config.file import load
    from daemon.service import logs

    loaded = load(config, given or ())
    logs.set_up(loaded.log)
    return loaded


def score(
    captions: Annotated[Path, typer.Argument(help="a file of captions, JSON Lines", show_default=False)],
    references: Annotated[Path, typer.Argument(help="what people wrote of them, JSON Lines", show_default=False)],
    against: Annotated[Path | None, typer.Option("--against", help="captions of another run, to compare with")] = None,
    clips: Annotated[Path | None, typer.Option("--clips", help="the folder of the clips: the worst are drawn")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="the folder for that sheet; else the current one")] = None,
    form: Annotated[ScoreForm, typer.Option("--format", help="what is printed")] = ScoreForm.TABLE,
) -> None:
    """Score captions against what people wrote: CIDEr, BLEU-4 and ROUGE-L of each source, and the ten worst."""
    import asyncio

    from daemon.commands.scoring.score import score_captions

    code = asyncio.run(score_captions(captions, references, against, clips, out, form))
    if code:
        raise typer.Exit(int(code))


def redo(
    config: ConfigFile,
    where: Annotated[
        list[str],
        typer.Option("--where", metavar="KEY=VALUE", help="what one of a clip's messages says; repeatable: all of it"),
    ],
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="at most so many clips")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only name them")] = False,
    settings: Set = None,
) -> None:
    """Send clips through again by what their captions say, such as --where status=looping."""
    from daemon.commands.sending.redo import redo as work

    loaded = begin(config, settings)
    code = work(loaded, where, limit, dry_run=dry_run)
    if code:
        raise typer.Exit(int(code))


def watch(
    url: Annotated[
        str,
        typer.Argument(help="rtsp, rtmp, srt, udp or HLS; ${NAME} is the environment's", show_default=False),
    ],
    form: Annotated[WatchForm, typer.Option("--format", help="what is printed")] = WatchForm.TEXT,
    transport: Annotated[Transport, typer.Option("--transport", help="how RTSP's media come")] = Transport.TCP,
    config: MaybeConfigFile = None,
    model: Model = None,
    prompt: PromptText = None,
    settings: Set = None,
) -> None:
    """Caption a live stream at a terminal, window by window, until Ctrl-C."""
    import asyncio

    from daemon.commands.watch import watch as work
    from daemon.commands.watch import watch_settings

    asyncio.run(work(watch_settings(url, transport, config, settings, model, prompt), form))


def record(
    config: ConfigFile,
    settings: Set = None,
) -> None:
    """Record the streams with record_while_down, beside the daemon and while it is down, until it is stopped."""
    import asyncio

    from daemon.commands.record import record as work

    asyncio.run(work(begin(config, settings)))


def enqueue(
    location: Annotated[str, typer.Argument(help="a folder, or a place in a store: s3://bucket/prefix")],
    topic: Annotated[str, typer.Option("--topic", help="a topic that a source of the configuration reads")],
    config: ConfigFile,
    pattern: Annotated[str, typer.Option("--pattern", help="names beneath it, as a folder has them")] = "**/*",
    since: Annotated[
        datetime | None, typer.Option("--since", help="only what was written since; UTC unless it says otherwise")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="at most so many references")] = None,
    again: Annotated[bool, typer.Option("--again", help="from the first name, whatever was written")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count")] = False,
    settings: Set = None,
) -> None:
    """Write a reference to each clip in a store or folder to a topic, from where the last call stopped."""
    from daemon.commands.sending.enqueue import enqueue as work

    loaded = begin(config, settings)
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    code = work(loaded, location, topic, dry_run=dry_run, pattern=pattern, since=since, limit=limit, again=again)
    if code:
        raise typer.Exit(int(code))
