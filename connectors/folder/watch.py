"""Hints that something changed in a folder. They make a scan come sooner; they are never the truth.

The kernel drops events when a burst overflows its queue, network file systems send none, and no event says that a file
is complete: the periodic scan finds everything that hints miss.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from watchfiles import Change, awatch

from connectors.folder.settings import OURS

log = logging.getLogger(__name__)

_DEBOUNCE_MS = 200  # events of one burst make one hint
_STEP_MS = 50
_ABSENT_S = 1.0  # a folder that is not there yet is looked for this often


async def watch_folder(root: Path, hint: Callable[[], None], stop: asyncio.Event, retry_s: float) -> None:
    """Call ``hint`` after changes in ``root`` until ``stop`` is set, again where the folder went away and came back."""
    warned = False
    while not stop.is_set():
        try:
            await _watch_once(root, hint, stop, retry_s)
        except FileNotFoundError:
            await _sleep(min(retry_s, _ABSENT_S), stop)
        except (OSError, RuntimeError) as error:
            if not warned:
                log.warning("Changes in %s can't be watched, it is scanned instead: %s.", root.name, error)
            warned = True
            await _sleep(retry_s, stop)


async def _watch_once(root: Path, hint: Callable[[], None], stop: asyncio.Event, look_s: float) -> None:
    """Watch until ``stop`` is set or, looked for every ``look_s`` at the latest, another folder has this name."""

    def matters(change: Change, path: str) -> bool:
        top = os.path.relpath(path, root).split(os.sep, 1)[0]
        return change != Change.deleted and top not in OURS

    watched = (await asyncio.to_thread(root.stat)).st_ino
    async for changes in awatch(
        root,
        watch_filter=matters,
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        stop_event=stop,
        rust_timeout=round(look_s * 1000),
        yield_on_timeout=True,
        ignore_permission_denied=True,  # one folder that is not readable does not end the watch over the others
    ):
        if changes:
            hint()
        if (await asyncio.to_thread(root.stat)).st_ino != watched:
            return


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
