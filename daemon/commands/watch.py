"""`captiond watch`: the captions of a live stream, printed as they come until it is stopped."""

import asyncio
import signal
import tempfile
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from connectors.contract import Caption, Progress
from connectors.errors import ExitCode
from connectors.messages.codec import caption_to_json
from connectors.routes import watching_route
from daemon.build import build_pipeline, clip_settings, started
from daemon.commands.one_shot import SOURCE, one_shot_settings
from daemon.commands.terminal import complain, say_beside, say_json
from daemon.config.clip_settings import settings_by_source
from daemon.config.settings import Settings


class WindowPrinter:
    """Prints each window of a stream, with the time of day here."""

    def __init__(self, form: str, out: Console) -> None:
        self._form, self._out = form, out

    def __call__(self, progress: Progress) -> None:
        """Print one progress."""
        for caption in progress.captions:
            if self._form == "json":
                say_json(caption_to_json(caption).decode())
            else:
                self._line(caption)

    def _line(self, caption: Caption) -> None:
        stream = caption.stream
        assert stream is not None  # noqa: S101 - the route has no other clips
        text = caption.text or f"({caption.status}{': ' + caption.detail if caption.detail else ''})"
        text = text if caption.prompt is None else f"{caption.prompt}: {text}"
        span = f"{_time_of_day(stream.start_ns)} - {_time_of_day(stream.exclusive_end_ns)}"
        say_beside(span, text.expandtabs(4), to=self._out, style="cyan")


def _time_of_day(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // 10**9).astimezone():%H:%M:%S}"


def watch_settings(
    url: str, transport: str, config: Path | None, overrides: list[str] | None, model: str | None, prompt: str | None
) -> Settings:
    """Return the settings: a stream that skips what it is too late for, for somebody looks on."""
    source = {"kind": "stream", "url": url, "transport": transport, "on_lag": "skip"}
    return one_shot_settings(config, overrides, model, prompt, source=source)


async def watch(settings: Settings, form: str) -> ExitCode:
    """Print the captions of the stream until SIGINT or SIGTERM. What is recorded meanwhile is deleted at the end."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="captiond-watch-") as folder:
        settings = settings.model_copy(update={"state_dir": Path(folder)})
        windows = settings_by_source(settings)[SOURCE].windows
        grids = {SOURCE: (windows.window_ns, windows.stride_ns)}
        route = watching_route(SOURCE, settings, grids, WindowPrinter(form, Console()))
        try:
            async with started(settings) as (sampler, engine):
                pipeline = build_pipeline(settings, [route], sampler, engine, clip_settings(settings, SOURCE))
                stops: list[asyncio.Task[None]] = []
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, _stop, pipeline.drain, stops)
                complain("Watching; Ctrl-C ends it.")
                await pipeline.run()
                await asyncio.gather(*stops)
        finally:
            await route.close()
    return ExitCode.CLEAN


def _stop(drain: Callable[[], Coroutine[Any, Any, None]], stops: "list[asyncio.Task[None]]") -> None:
    stops.append(asyncio.create_task(drain()))
