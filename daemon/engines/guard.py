"""The guard that a local engine runs behind: deadlines, stalls and the engine's death."""

import asyncio
import contextlib
import faulthandler
import logging
import math
import sys
from dataclasses import dataclass, field
from typing import TextIO

from connectors.errors import EngineLost, Reason, Transient
from daemon.engines.contract import Completion, Engine, EngineStatistics, Rendered, RenderingState, unheeded
from daemon.engines.letting_go import LettingGo
from daemon.engines.model.token_planner import TokenPlanner
from daemon.engines.stalls import ReplicaStalls
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet

log = logging.getLogger(__name__)

_LOOKS_PER_LIMIT = 20  # a stall or a deadline is noticed within this share of it ...
_LONGEST_LOOK_S = 1.0  # ... and within a second
_LATE_LOOK = 2.0  # a look that is later says that this process did not run, and nothing of the engine


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


@dataclass(eq=False, slots=True)
class _Request:
    """A request in the task that asks for it. Its deadline runs once the model has it, at progress ``seen``."""

    task: "asyncio.Task[object]"
    cancelling: int = field(init=False)
    is_with_model: bool = False
    is_aborted: bool = False
    due_s: float = math.inf
    seen: int = 0

    def __post_init__(self) -> None:
        self.cancelling = self.task.cancelling()

    def abort(self) -> None:
        """Make the request end; who asked for it is told why."""
        if not self.is_aborted:
            self.is_aborted = True
            self.task.cancel()

    def was_aborted(self) -> bool:
        """Whether it was :meth:`abort`, and nobody else, who cancelled the task. It counts as cancelled no more."""
        return self.is_aborted and self.task.uncancel() <= self.cancelling


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
        self._requests: set[_Request] = set()
        self._lost = asyncio.Event()
        self._why = "the engine died"
        self._watchers: list[asyncio.Task[None]] = []
        self._replicas = ReplicaStalls(engine)

    @property
    def in_flight(self) -> int:
        """The number of requests that the model has now."""
        return sum(request.is_with_model for request in self._requests)

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
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine
        request = _Request(task)
        self._requests.add(request)

        async def begin(size_bytes: int) -> None:
            await rendered(size_bytes)
            request.is_with_model = True
            request.due_s, request.seen = self._due_s(), self.progress

        try:
            answer = await LettingGo(self._engine.describe(frames, prompt, request_id, begin))
            request.was_aborted()  # and answered all the same
            return answer
        except (Exception, asyncio.CancelledError) as error:
            self._requests.discard(request)
            if isinstance(error, EngineLost):  # it tells everybody else
                self._lose(str(error))
            if not request.was_aborted():
                raise
            self._raise_if_lost()
            detail = f"the engine gave no answer within {self._request_deadline_s:g} s"
            raise Transient(detail, reason=Reason.ENGINE_DEADLINE, origin="engine") from None
        finally:
            self._requests.discard(request)

    def _due_s(self) -> float:
        return asyncio.get_running_loop().time() + self._request_deadline_s

    def _abort_late(self, now_s: float) -> None:
        """Abort the requests whose deadline passed while the engine got on with something else."""
        hangs = self._replicas.longest_s > self._request_deadline_s / 2
        for request in [request for request in self._requests if request.due_s <= now_s]:
            if request.seen != self.progress and not hangs:
                request.abort()
            else:
                request.due_s, request.seen = self._due_s(), self.progress

    async def wait_dead(self) -> None:
        """Raise :class:`EngineLost` when the engine has died or makes no progress."""
        await self._lost.wait()
        self._raise_if_lost()

    async def close(self) -> None:
        """Stop watching, let every request that waits raise :class:`EngineLost`, then stop the engine."""
        self._why = "the engine was stopped"
        self._end_requests()
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._engine.close()

    def _end_requests(self) -> None:
        self._lost.set()
        for request in self._requests:
            request.abort()

    def _raise_if_lost(self) -> None:
        if self._lost.is_set():
            raise EngineLost(self._why)

    def _lose(self, why: str) -> None:
        if not self._lost.is_set():
            self._why = why
            log.error("The engine is lost: %s. It held %d requests.", why, self.in_flight)
            self._end_requests()

    async def _watch_death(self) -> None:
        try:
            await self._engine.wait_dead()
        except EngineLost as error:
            self._lose(str(error))
        else:
            self._lose("the engine died")

    async def _watch_progress(self) -> None:
        """Add up the time with requests in flight and without progress, and abort what is late."""
        clock = asyncio.get_running_loop().time
        look_s = min(_LONGEST_LOOK_S, self._stall_s / _LOOKS_PER_LIMIT, self._request_deadline_s / _LOOKS_PER_LIMIT)
        stalled_s, seen, looked_s = 0.0, self.progress, clock()
        while stalled_s < self._stall_s and not (hanging := self._replicas.over(self._stall_s)):
            await asyncio.sleep(look_s)
            now_s, now = clock(), self.progress
            passed_s = min(now_s - looked_s, _LATE_LOOK * look_s)
            if now != seen:
                stalled_s = 0.0
            elif self.in_flight:
                stalled_s += passed_s
            self._replicas.look(passed_s)
            self._abort_late(now_s)
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
