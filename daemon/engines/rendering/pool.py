"""The renderers of an engine: so many windows are rendered at once, and a renderer that died is replaced."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from connectors.errors import EngineLost, Transient
from daemon.engines.contract import RenderingState
from daemon.engines.rendering.job import RenderedWindow, RenderJob
from daemon.engines.rendering.process import RendererProcess
from daemon.windows import FrameSet

log = logging.getLogger(__name__)


class RendererPool:
    """Renderers in processes of their own. See :class:`daemon.engines.rendering.in_process.Rendering`.

    A window waits for its turn without a limit, for that is no fault of anybody's; the deadline begins with its turn.
    """

    def __init__(self, count: int, configuration: bytes, environment: Mapping[str, str], deadline_s: float) -> None:
        self._renderers = [RendererProcess(configuration, environment, deadline_s) for _ in range(count)]
        self._free = asyncio.Queue[RendererProcess]()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._lost: asyncio.Future[None] | None = None
        self._waiting = self._replaced = 0

    @property
    def state(self) -> RenderingState:
        """What the renderers are doing now."""
        running = sum(renderer.is_running for renderer in self._renderers)
        return RenderingState(running, self._waiting, max(0, running - self._free.qsize()), self._replaced)

    @property
    def pids(self) -> list[int]:
        """Process ids of the renderers that run."""
        return [renderer.pid for renderer in self._renderers if renderer.pid is not None]

    @property
    def lost(self) -> bool:
        """Whether a renderer that died could not be replaced."""
        return self._lost is not None and self._lost.done()

    async def start(self) -> None:
        """Start every renderer; :class:`Transient` when one does not come up, after the others have ended."""
        self._lost = asyncio.get_running_loop().create_future()
        starts = [renderer.start() for renderer in self._renderers]
        failed = [one for one in await asyncio.gather(*starts, return_exceptions=True) if one is not None]
        if failed:
            await self.close()
            raise failed[0]
        for renderer in self._renderers:
            self._free.put_nowait(renderer)

    @asynccontextmanager
    async def rendered(self, job: RenderJob, frames: FrameSet) -> AsyncIterator[RenderedWindow]:
        """Hold a window rendered, and the renderer with it: it renders no other window until this one is taken.

        Raises as :meth:`RendererProcess.render` does, and :class:`EngineLost` when there is no renderer any more.
        """
        begun_s = time.monotonic()
        renderer = await self._turn()
        work = asyncio.create_task(renderer.render(job, frames, (time.monotonic() - begun_s) * 1000))
        self._tasks.add(work)
        try:
            yield await asyncio.shield(work)
        except asyncio.CancelledError:
            if work.cancelled():
                raise EngineLost("the engine was stopped") from None
            raise
        finally:  # what is begun is finished, wanted or not: the next answer is the next window's
            work.add_done_callback(partial(self._give_back, renderer))

    async def _turn(self) -> RendererProcess:
        """Wait for a renderer that runs."""
        assert self._lost is not None, "the pool has not started"  # noqa: S101
        self._waiting += 1
        try:
            while True:
                turn = asyncio.ensure_future(self._free.get())
                try:
                    await asyncio.wait(
                        set[asyncio.Future[Any]]({turn, self._lost}), return_when=asyncio.FIRST_COMPLETED
                    )
                except asyncio.CancelledError:
                    self._hand_on(turn)
                    raise
                if not turn.done():
                    turn.cancel()
                    raise EngineLost("a renderer died and another does not start")
                if turn.result().is_running:
                    return turn.result()
                self._replace(turn.result())
        finally:
            self._waiting -= 1

    def _hand_on(self, turn: "asyncio.Future[RendererProcess]") -> None:
        """Give up a turn that is not wanted any more."""
        if turn.done() and not turn.cancelled():
            self._free.put_nowait(turn.result())
        turn.cancel()

    def _give_back(self, renderer: RendererProcess, work: "asyncio.Task[RenderedWindow]") -> None:
        self._tasks.discard(work)
        if not work.cancelled():
            work.exception()  # its caller has it, or is gone
        if self._closed:
            return
        if renderer.is_running:
            self._free.put_nowait(renderer)
        else:
            self._replace(renderer)

    def _replace(self, renderer: RendererProcess) -> None:
        """Start another process in a dead renderer's place; windows are rendered by the others meanwhile."""
        task = asyncio.create_task(self._start_again(renderer), name="replace a renderer")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_again(self, renderer: RendererProcess) -> None:
        self._replaced += 1
        log.warning("A renderer ended and is replaced.")
        await renderer.end()
        try:
            await renderer.start()
        except Transient:
            if self._lost is not None and not self._lost.done():
                self._lost.set_result(None)
        else:
            self._free.put_nowait(renderer)

    async def close(self) -> None:
        """End every renderer and wait for it."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(renderer.end() for renderer in self._renderers))
