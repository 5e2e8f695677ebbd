"""`captiond redo`: clips once more, chosen by what their messages say."""

from collections.abc import Sequence

from connectors.errors import ExitCode
from connectors.routes import redo_clips
from daemon.commands.terminal import say
from daemon.config.settings import Settings


def redo(settings: Settings, where: Sequence[str], limit: int | None, *, dry_run: bool) -> ExitCode:
    """Send clips through again and name each; 65 where one that was chosen can't be."""
    sent, left, under_way = 0, 0, 0
    for outcome in redo_clips(settings, where, limit=limit, dry_run=dry_run):
        clip = outcome.clip
        if outcome.why_left:
            left += 1
            say(f"{clip.source} {clip.name or clip.clip_id}: left, for {outcome.why_left}.")
        elif outcome.is_under_way:
            under_way += 1
        else:
            sent += 1
            say(f"{clip.source} {clip.name or clip.clip_id}: {'would go' if dry_run else 'goes'} through again.")
    beside = f" {under_way} more were sent by an earlier call; no message of them came since." if under_way else ""
    say(f"{sent} clips {'would go' if dry_run else 'go'} through again, {left} are left.{beside}")
    return ExitCode.CLIP_FAILED if left else ExitCode.CLEAN
