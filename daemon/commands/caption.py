"""`captiond caption`: the captions of files, printed as they come."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress as ProgressBar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from connectors.contract import Caption, Progress
from connectors.errors import ExitCode
from connectors.messages.codec import caption_to_json, rejection_to_json
from connectors.messages.webvtt import HEADER, block
from connectors.terminal import terminal_route
from daemon.build import build_pipeline, clip_settings, started
from daemon.commands.one_shot import SOURCE, clock
from daemon.commands.terminal import cell, complain, say, say_beside, say_json, say_lines
from daemon.config.settings import Settings


class CaptionPrinter:
    """Prints captions as they come, and remembers which clips failed."""

    def __init__(self, form: str, out: Console, status: Callable[[str], None]) -> None:
        self.failed: list[str] = []
        self._form, self._out, self._status = form, out, status
        self._named: str | None = None
        self._windows = 0

    def __call__(self, progress: Progress) -> None:
        """Print one progress."""
        name = progress.delivery.clip.media.name
        if self._named != name:
            self._named = name
            self._head(name)
        for caption in progress.captions:
            self._windows += 1
            self._caption(caption)
        if progress.rejection is not None:
            self.failed.append(f"{name}: {progress.rejection.reason}: {progress.rejection.detail}")
            if self._form == "json":
                say_json(rejection_to_json(progress.rejection).decode())
        self._status(f"{name}: {self._windows} window(s) captioned")

    def _head(self, name: str) -> None:
        if self._form == "text":
            say(name, to=self._out, style="bold")
        elif self._form == "vtt":
            say_lines(HEADER.rstrip("\n"))

    def _caption(self, caption: Caption) -> None:
        if self._form == "json":
            say_json(caption_to_json(caption).decode())
        elif self._form == "vtt":
            say_lines(block(caption).expandtabs(4).rstrip("\n"))
        else:
            span = f"{clock(caption.window.start_ns)} - {clock(caption.window.exclusive_end_ns)}"
            text = caption.text or f"({caption.status}{': ' + caption.detail if caption.detail else ''})"
            text = text if caption.prompt is None else f"{caption.prompt}: {text}"
            say_beside(f"  {span}", text.expandtabs(4), to=self._out, style="cyan")


async def caption(settings: Settings, clips: Sequence[Path], form: str) -> ExitCode:
    """Caption files and print what the model says; 65 when one of them could not be captioned to its end."""
    if form != "json":  # for a person each clip's captions stand together; its windows still go side by side
        limits = settings.limits.model_copy(update={"max_clips_in_flight": 1})
        settings = settings.model_copy(update={"limits": limits})
    out, err = Console(), Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with ProgressBar(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("Loading the model")
        printer = CaptionPrinter(form, out, lambda text: bar.update(task, description=str(cell(text))))
        route = terminal_route(SOURCE, clips, printer)
        async with started(settings) as (sampler, engine):
            bar.update(task, description="Captioning")
            await build_pipeline(settings, [route], sampler, engine, clip_settings(settings, SOURCE)).run()
    for line in printer.failed:
        complain(f"Not captioned to its end: {line}.", style="red")
    return ExitCode.CLIP_FAILED if printer.failed else ExitCode.CLEAN
