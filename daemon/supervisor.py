"""Start order, signals, drain and exit codes.

Start: the decoders, then the engine with its warm-up, then the sources: nothing is taken before it can be captioned.
Only live streams are recorded meanwhile, for nobody keeps them.
Stop: the sources give nothing more, the windows in flight are finished and published within ``timeouts.drain_s``, the
sources are closed and give back what is unfinished, and the engine goes last. A second signal skips the drain. A dead
engine ends the program at once with the clips that it held in quarantine; the service manager starts it again.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from connectors.contract import Route, Sink
from connectors.errors import EngineLost, ExitCode, Fatal
from daemon.decoding.sampler import Sampler
from daemon.engines.contract import Engine, reads_shared_frames
from daemon.pipeline import Pipeline
from daemon.service.hooks import NoHooks, ServiceHooks
from daemon.service.sdnotify import ServiceManager

log = logging.getLogger(__name__)

_NOT_FAULTS = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)
_LOADING_STEP_S = 10.0  # how often the service manager is asked for more time while a model loads


@dataclass
class Components:
    """A running program's parts."""

    sampler: Sampler
    engine: Engine
    sink: Sink
    routes: Sequence[Route]
    make_pipeline: Callable[["Components"], Pipeline]  # called when the engine has started and knows its slots
    drain_s: float
    manager: ServiceManager = field(default_factory=ServiceManager)
    hooks: ServiceHooks | NoHooks = field(default_factory=NoHooks)


class Stop(Exception):
    """A signal came before the program was ready."""


class Supervisor:
    """Runs the components once and says with which code the program exits."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self._stop, self._stop_now = asyncio.Event(), asyncio.Event()

    async def run(self) -> ExitCode:
        """Start everything, caption until the sources end or a signal comes, stop everything."""
        hooks, code = self._components.hooks, None
        with _Signals(self.stop, hooks.reload):
            try:
                code = await self._live()
            finally:
                await hooks.close(code)
        return code

    async def _live(self) -> ExitCode:
        try:
            async with AsyncExitStack() as stack:
                await self._start(stack)
                return await self._work()
        except Stop:
            return ExitCode.CLEAN
        except _NOT_FAULTS:
            raise
        except BaseException as error:  # libraries in other languages panic with exceptions of their own
            return _exit_code(error)

    def stop(self) -> None:
        """Begin a stop; called again, end it at once."""
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    async def _start(self, stack: AsyncExitStack) -> None:
        components = self._components
        await components.hooks.start()
        stack.push_async_callback(components.sampler.close)
        await self._unless_stopped(components.sampler.start())
        for route in components.routes:
            stack.push_async_callback(route.close)  # a second time where it was closed before the engine
            await self._unless_stopped(route.begin())
        stack.push_async_callback(components.engine.close)
        await self._unless_stopped(components.engine.start())
        components.sampler.scale_by(components.engine.planner.frame_size)
        components.sampler.shares_frames = reads_shared_frames(components.engine)
        stack.push_async_callback(components.sink.close)
        for route in components.routes:
            stack.push_async_callback(route.close)
        components.hooks.ready()
        log.info("Ready: %s answers, %d source(s) are read.", components.engine.model_id, len(components.routes))

    async def _unless_stopped(self, step: Awaitable[None]) -> None:
        """Wait for a step of the start, ask for more time meanwhile, and give it up when a signal comes."""
        work, stop = asyncio.ensure_future(step), asyncio.create_task(self._stop.wait())
        try:
            while not work.done() and not stop.done():
                self._components.manager.extend(3 * _LOADING_STEP_S)
                await asyncio.wait({work, stop}, timeout=_LOADING_STEP_S, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Stop
            await work
        finally:
            await _end(work, stop)

    async def _work(self) -> ExitCode:
        """Caption until the sources end, a signal comes, or the engine dies; a fault of the main loop is raised."""
        components, pipeline = self._components, self._components.make_pipeline(self._components)
        work = asyncio.create_task(pipeline.run())
        death = asyncio.create_task(components.engine.wait_dead())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({work, death, stop}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done() and not work.done() and not death.done():  # a signal came first
                await self._drain(pipeline, work, death)
            if death.done() and not work.done():  # the engine died, perhaps during the drain
                pipeline.in_flight.engine_died()
                await _end(work)
                raise EngineLost("the engine died or makes no progress")
            if work.done() and not work.cancelled():  # the sources ended or were drained, or the main loop failed
                await work
            return ExitCode.CLEAN
        except BaseException as error:
            if _exit_code(error, quiet=True) is ExitCode.ENGINE_LOST:
                await pipeline.in_flight.quarantine()
            raise
        finally:
            components.manager.stopping()
            await _end(work, death, stop)

    async def _drain(self, pipeline: Pipeline, work: asyncio.Task[None], death: asyncio.Task[None]) -> None:
        """Finish the windows in flight, within the time there is."""
        log.info("Stopping: the windows in flight are finished within %g s.", self._components.drain_s)
        self._components.hooks.draining(self._components.drain_s)
        now = asyncio.create_task(self._stop_now.wait())
        await pipeline.drain()
        await asyncio.wait({work, death, now}, timeout=self._components.drain_s, return_when=asyncio.FIRST_COMPLETED)
        if not work.done() and not death.done():
            log.warning("Stopped before every window in flight was finished; they are done again at the next start.")
        await _end(now)
        if not death.done():
            await _end(work)


async def _end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait for it; how it ended is its owner's business."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _exit_code(error: BaseException, *, quiet: bool = False) -> ExitCode:
    """Return the exit code that an error means, and say it; with its stack, where nobody foresaw it."""
    fatal: BaseException | None = error
    while isinstance(fatal, BaseExceptionGroup):
        found = fatal.subgroup(Fatal)
        fatal = None if found is None else found.exceptions[0]
    if not isinstance(fatal, Fatal):
        if not quiet:
            log.critical("This is a bug: the program ends, and what is unfinished comes again.", exc_info=error)
        return ExitCode.BUG
    if not quiet:
        log.error("%s", fatal)
    return ExitCode(fatal.exit_code)


class _Signals:
    """SIGTERM and SIGINT call ``stop``, and SIGHUP calls ``reload`` where there is one, while this is open."""

    def __init__(self, stop: Callable[[], None], reload: Callable[[], None] | None) -> None:
        self._handlers = {signal.SIGTERM: stop, signal.SIGINT: stop}
        if reload is not None:
            self._handlers[signal.SIGHUP] = reload

    def __enter__(self) -> None:
        for number, handler in self._handlers.items():
            asyncio.get_running_loop().add_signal_handler(number, handler)

    def __exit__(self, *_: object) -> None:
        for number in self._handlers:
            asyncio.get_running_loop().remove_signal_handler(number)
