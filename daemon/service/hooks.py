"""Hooks around the main loop: reports to the service manager, the status server, reloads of the configuration.

They never touch a clip. The supervisor calls them as the program starts, gets ready, drains and ends.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from connectors.errors import ExitCode
from connectors.messages.safe_text import escaped
from connectors.messages.url_secrets import mask_urls
from daemon.service import memory
from daemon.service.health import Health, Phase
from daemon.service.reload import Outcome, Reloader
from daemon.service.run_record import RunRecord
from daemon.service.sdnotify import ServiceManager
from daemon.service.watchdog import Watchdog

log = logging.getLogger(__name__)

_CLOSING_S = 25.0  # what the engine and the sources may take to close after a drain


class Server(Protocol):
    """A server of the status beside the main loop."""

    async def start(self) -> None:
        """Listen, then serve until :meth:`close`."""
        ...

    async def close(self) -> None:
        """Stop serving."""
        ...


class NoHooks:
    """The hooks of a job that ends by itself: nobody is told anything, and a reload means nothing to it."""

    reload = None

    async def start(self) -> None:
        """Begin to tell nobody."""

    def ready(self) -> None:
        """Tell nobody."""

    def draining(self, drain_s: float) -> None:
        """Tell nobody."""

    async def close(self, code: ExitCode | None) -> None:
        """End to tell nobody."""


@dataclass
class ServiceHooks:
    """The hooks of one daemon. Without a ``server`` the status is served nowhere."""

    health: Health
    watchdog: Watchdog
    manager: ServiceManager
    reloader: Reloader
    server: Server | None
    try_again: Callable[[], list[str]] = list  # lets the sources that are paused be read again; returns their names
    record: RunRecord = field(default_factory=RunRecord)
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def start(self) -> None:
        """Serve the status and begin to tell the service manager, before anything is loaded."""
        self.health.restarts = self.record.begin()
        if self.server is not None:
            await self.server.start()
            self._stack.push_async_callback(self.server.close)
        self._tasks.append(asyncio.create_task(self._tell(), name="tell the service manager"))

    def ready(self) -> None:
        """Report that the model has answered and the sources are about to be read."""
        memory.settle()
        self.health.phase = Phase.READY
        self.manager.ready()
        self.manager.status(self.health.line())

    def draining(self, drain_s: float) -> None:
        """Report that a stop has begun; it may take as long as the configuration says, whatever the unit says."""
        self.health.phase = Phase.DRAINING
        self.manager.stopping()
        self.manager.extend(drain_s + _CLOSING_S)
        self.manager.status(self.health.line())

    def reload(self) -> None:
        """Read the configuration again (SIGHUP); while the program starts or stops, say that it is not done."""
        if self.health.phase is not Phase.READY:
            log.warning("Not reloaded: the program is %s.", self.health.phase)
            return
        self._tasks.append(asyncio.create_task(self._reload(), name="reload"))

    async def close(self, code: ExitCode | None) -> None:
        """Stop telling and serving, and note how the program ends."""
        memory.unsettle()
        self.health.phase = Phase.STOPPED
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        if code is not None:
            self.record.end(code)

    async def _tell(self) -> None:
        """Ping while there is progress, and keep the status line true."""
        told = ""
        while True:
            was_still = self.watchdog.stalled
            if not self.watchdog.look() and not was_still:
                log.error("No more pings to the service manager: %s stands still.", self.watchdog.stalled)
            line = self.health.line()
            if line != told:
                self.manager.status(line)
            told = line
            await asyncio.sleep(self.watchdog.pause_s)

    async def _reload(self) -> None:
        self.manager.reloading()
        try:
            outcome, sentence = await asyncio.to_thread(self.reloader.reload)
        except Exception:  # a bug in reading a file is no reason to stop captioning
            log.exception("The configuration could not be read again.")
            outcome, sentence = Outcome.REFUSED, "Not reloaded: an error, see the log."
        if outcome is not Outcome.REFUSED and (names := self.try_again()):
            sentence += f" Read again: {', '.join(names)}."
        sentence = escaped(mask_urls(sentence))  # it may quote what stands in the file
        self.health.metrics.reloads.labels(outcome).inc()
        self.health.last_reload = sentence
        log.log(logging.WARNING if outcome is Outcome.REFUSED else logging.INFO, "%s", sentence)
        self.manager.ready()
        self.manager.status(self.health.line())
