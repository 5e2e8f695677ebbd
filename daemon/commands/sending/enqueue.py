"""`captiond enqueue`: references to what lies in a store, written to a topic, with a line that says how far it is."""

from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from connectors.errors import ExitCode
from connectors.messages.safe_text import escaped
from connectors.routes import enqueue_references
from daemon.commands.terminal import say
from daemon.config.settings import Settings


def enqueue(settings: Settings, location: str, topic: str, *, dry_run: bool, **wanted: Any) -> ExitCode:
    """Write the references that are left, and say how many; 65 where the source would not take some."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    done = None
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        line = progress.add_task(f"listing {escaped(location)}", total=None)
        for done in enqueue_references(settings, location, topic, dry_run=dry_run, **wanted):
            progress.update(line, description=f"{done.written:,} references, at {escaped(done.last)}")
    if done is None:
        return ExitCode.CLEAN
    verb = "would be" if dry_run else "were"
    before = f", {done.before} by earlier calls" if done.before else ""
    left = f"; {done.passed_over} objects are not wanted" if done.passed_over else ""
    say(f"{done.written} references {verb} written to {topic}{before}{left}.")
    if done.refused:
        say(f"{done.refused} objects are left out, for the source would reject them: {done.why_refused}.")
    return ExitCode.CLIP_FAILED if done.refused else ExitCode.CLEAN
