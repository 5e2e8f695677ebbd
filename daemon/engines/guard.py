"""The guard that a local engine runs behind: deadlines, stalls and the engine's death."""

import asyncio
import contextlib
import faulthandler
import logging
import sys
from typing import TextIO

from connectors.errors import EngineLost, Reason, Transient
from daemon.engines.contract import Completion, Engine, EngineStatistics, Rendered, RenderingState, unheeded
from daemon.engines.model.token_planner import TokenPlanner
from daemon.engines.stalls import ReplicaStalls
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet

log = logging.getLogger(__name__)

_LOOKS_PER_STALL = 20  # a stall is noticed within this share of stall_s ...
_LONGEST_LOOK_S = 1.0  # ... and within a second
_LATE_LOOK = 2.0  # a look that is later says that this process did not run, and nothing of the engine
_ABORT_S = 1.0  # how long an aborted request may take to let go; it is left behind then


class EngineWrapper:
    """An engine in front of another one, whose account of itself it hands on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def model_id(self) -> str:
        return self._engine.model_id

    @property
    def slots(self) -> int:
        return self._engine.slots

    @property
    def progress(self) -> int:
        return self._engine.progress

    @property
    def waiting_for(self) -> str:
        return self._engine.waiting_for

    @property
    def statistics(self) -> EngineStatistics | None:
        return self._engine.statistics

    @property
    def rendering(self) -> RenderingState | None:
        return self._engine.rendering

    @property
    def planner(self) -> TokenPlanner:
        return self._engine.planner


class GuardedEngine(EngineWrapper):
    """An engine whose every request ends: with an answer, at a deadline, or with the engine's death.

    1. A request that takes longer than ``request_deadline_s`` while the engine gets on with others is aborted:
       :class:`Transient`, reason ``engine_deadline``. One during which nothing at all moved is given as long again,
       until something moves or the engine counts as dead: a hanging engine is no clip's fault. It begins when the
       model has the request: a window waits for its rendering as long as others are rendered, which has a deadline of
       its own.
    2. While requests are in flight and :attr:`Engine.progress` stands still for ``stall_s``, the engine counts as dead:
       the stacks of all threads and tasks go to ``dump_to`` first. So it does when one of its replicas holds requests
       and makes no step for as long, whatever the others do; while one stands still, no deadline passes.
    3. Once the engine is dead, in this way or by its own account, every request that waits and every later one raises
       :class:`EngineLost`, and so does :meth:`wait_dead`.

    Time without requests never counts as a stall, nor does time in which this process did not run, and an aborted
    request does not count as progress.
    """

    def __init__(
        self, engine: Engine, request_deadline_s: float, stall_s: float, *, dump_to: TextIO | None = None
    ) -> None:
        super().__init__(engine)
        self._request_deadline_s, self._stall_s = request_deadline_s, stall_s
        self._dump_to = dump_to
        self._requests: set[asyncio.Future[None]] = set()  # one for each request
        self._waits: set[asyncio.Future[None]] = set()  # one for each request that the model has
        self._lost = asyncio.Event()
        self._why = "the engine died"
        self._watchers: list[asyncio.Task[None]] = []
        self._replicas = ReplicaStalls(engine)

    @property
    def in_flight(self) -> int:
        """The number of requests that the model has now."""
        return len(self._waits)

    async def start(self) -> None:
        """Start the engine, then watch it."""
        await self._engine.start()
        self.watch()

    def watch(self) -> None:
        """Watch an engine that has started."""
        self._watchers = [asyncio.create_task(self._watch_death()), asyncio.create_task(self._watch_progress())]

    async def describe(
        self, frames: FrameSet, prompt: Prompt, request_id: str, rendered: Rendered = unheeded
    ) -> Completion:
        """Return the model's answer, or raise within ``stall_s`` and two ``request_deadline_s`` of its rendering."""
        self._raise_if_lost()
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        is_rendered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def begin(size_bytes: int) -> None:
            await rendered(size_bytes)
            if over in self._requests:  # else it was given up meanwhile
                self._waits.add(over)
            _end(is_rendered)

        request = asyncio.create_task(self._engine.describe(frames, prompt, request_id, begin))
        request.add_done_callback(lambda _: _end(over))
        self._requests.add(over)
        try:
            await asyncio.wait({over, is_rendered}, return_when=asyncio.FIRST_COMPLETED)
            if not over.done():
                await self._until_late(over)
            if request.done():
                return self._answer(request)
            self._raise_if_lost()
            detail = f"the engine gave no answer within {self._request_deadline_s:g} s"
            raise Transient(detail, reason=Reason.ENGINE_DEADLINE, origin="engine")
        finally:
            self._requests.discard(over)
            self._waits.discard(over)
            await _let_go(request)

    async def _until_late(self, over: "asyncio.Future[None]") -> None:
        """Wait for a request's end, the engine's, or a deadline in which the engine got on with something else."""
        while True:
            seen = self.progress
            limit_s = self._request_deadline_s
            done, _ = await asyncio.wait({over}, timeout=limit_s)
            replica_hangs = self._replicas.longest_s > limit_s / 2
            if done or (self.progress != seen and not replica_hangs):
                return

    def _answer(self, request: "asyncio.Task[Completion]") -> Completion:
        """Return a finished request's answer. One that found the engine dead tells everybody else."""
        try:
            return request.result()
        except EngineLost as error:
            self._lose(str(error))
            raise

    async def wait_dead(self) -> None:
        """Raise :class:`EngineLost` when the engine has died or makes no progress."""
        await self._lost.wait()
        self._raise_if_lost()

    async def close(self) -> None:
        """Stop watching, let every request that waits raise :class:`EngineLost`, then stop the engine."""
        self._why = "the engine was stopped"
        self._end_waits()
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._engine.close()

    def _end_waits(self) -> None:
        self._lost.set()
        for over in self._requests:
            _end(over)

    def _raise_if_lost(self) -> None:
        if self._lost.is_set():
            raise EngineLost(self._why)

    def _lose(self, why: str) -> None:
        if not self._lost.is_set():
            self._why = why
            log.error("The engine is lost: %s. It held %d requests.", why, self.in_flight)
            self._end_waits()

    async def _watch_death(self) -> None:
        try:
            await self._engine.wait_dead()
        except EngineLost as error:
            self._lose(str(error))
        else:
            self._lose("the engine died")

    async def _watch_progress(self) -> None:
        """Add up the time with requests in flight and without progress."""
        clock = asyncio.get_running_loop().time
        look_s = min(_LONGEST_LOOK_S, self._stall_s / _LOOKS_PER_STALL)
        stalled_s, seen, looked_s = 0.0, self.progress, clock()
        while stalled_s < self._stall_s and not (hanging := self._replicas.over(self._stall_s)):
            await asyncio.sleep(look_s)
            now_s, now = clock(), self.progress
            passed_s = min(now_s - looked_s, _LATE_LOOK * look_s)
            if now != seen:
                stalled_s = 0.0
            elif self._waits:
                stalled_s += passed_s
            self._replicas.look(passed_s)
            seen, looked_s = now, now_s
        with contextlib.suppress(OSError, ValueError):  # a log that can't be written keeps no dead engine alive
            self._dump_stacks()
        whose = f" of {hanging}" if hanging else ""
        self._lose(f"no progress{whose} for {self._stall_s:g} s with {self.in_flight} requests in flight")

    def _dump_stacks(self) -> None:
        """Write the stacks of every thread and every task: what a person needs to see where it hangs."""
        out = self._dump_to or sys.__stderr__
        if out is None:
            return
        out.write(f"No progress of the engine for {self._stall_s:g} s. Threads:\n")
        out.flush()
        faulthandler.dump_traceback(out, all_threads=True)
        for task in asyncio.all_tasks():
            task.print_stack(file=out)
        out.flush()


async def _let_go(request: "asyncio.Task[Completion]") -> None:
    """Abort a request that still runs; one that does not let go is left behind, its end nobody's business."""
    if not request.done():
        request.cancel()
        await asyncio.wait({request}, timeout=_ABORT_S)
    if not request.done():
        request.add_done_callback(_ended)
    elif not request.cancelled():
        request.exception()  # seen: it was raised already, or came too late


def _end(over: "asyncio.Future[None]") -> None:
    if not over.done():
        over.set_result(None)


def _ended(request: "asyncio.Task[Completion]") -> None:
    with contextlib.suppress(asyncio.CancelledError):
        request.exception()
