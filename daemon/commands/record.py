"""`captiond record`: the recorders of live streams in a process of their own, while the daemon is up and down."""

import asyncio
import logging
import signal
from contextlib import AsyncExitStack, suppress

from connectors.routes import lasting_recordings
from daemon.config.settings import Settings
from daemon.service.sdnotify import ServiceManager

_LOOK_S, _LONGEST_S = 0.1, 60.0

log = logging.getLogger(__name__)


async def record(settings: Settings) -> None:
    """Record every stream with ``record_while_down`` until SIGINT or SIGTERM; what has come is kept.

    The service manager is told once all recorders are at work: a daemon that starts then starts none of its own.
    """
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        recordings = lasting_recordings(settings)
        for recording in recordings:
            await recording.start()
            stack.push_async_callback(recording.close)
            log.info("Recording %s.", recording.name, extra={"source": recording.name})
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_S):
                while not (stopped.is_set() or all(recording.is_at_work for recording in recordings)):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_S)
        ServiceManager().ready()
        await stopped.wait()
