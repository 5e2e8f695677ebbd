"""The decoding children: each clip stays in one, and a child that failed or has done its share is replaced."""

import asyncio
import itertools
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from daemon.decoding.budgets import DecodeTime, Meter
from daemon.decoding.fields import Data
from daemon.decoding.fork_server import DecoderRequest, ForkServer
from daemon.decoding.process import DecoderProcess, Expected
from daemon.decoding.protocol import MAX_SMALL_INDEX_BYTES, Answer, Asked, Forget, Index
from daemon.frame_look import ON_DEVICE

_CLIPS_A_CHILD = 500  # then it is replaced: leaks of libraries stay bounded
_MOST_THREADS = 4  # of one decoder: each more helps less, and holds a frame more
_CHILDREN_A_SLOT = 4  # of other sources, kept for their next window; an idle one holds some 20 MB

# whether the child has the clip open -> the request and its descriptors
MakeRequest = Callable[[bool], tuple[Asked, list[int]]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose clips a child may hold: those of one source, decoded by one library, with or without their ``shots``."""

    source: str
    decoder: str = "av"
    shots: bool = False


_NOBODY = Sender("")  # a child that has not seen a clip yet: the first source that needs it has it


@dataclass(slots=True)
class Session:
    """A clip's stay in a child. With ``index``, a block, another child can take it over.

    ``reserved_bytes`` are for that block and what is read of it.
    """

    number: int
    descriptor: int
    slot: int
    sender: Sender
    time: DecodeTime
    index: Data = field(default=b"", repr=False)
    index_bytes: int = 0
    reserved_bytes: int = 0
    answers: int = 0
    opened_in: DecoderProcess | None = field(default=None, repr=False)

    @property
    def has_just_begun(self) -> bool:
        """Whether it has its plan and no window yet: its index may be what came second."""
        return self.answers in (1, 2)  # to as many requests


class SlotTurns:
    """One turn at a time, in the order of asking, but for those that ask for theirs ``soon``: they go first.

    Of many clips that come at once, as the windows of many cameras do, each is then decoded soon after it is planned,
    while its source still has a child, instead of all being planned before one is decoded.
    """

    def __init__(self) -> None:
        self.taken = False
        self._soon, self._waiting = deque[asyncio.Future[None]](), deque[asyncio.Future[None]]()

    @asynccontextmanager
    async def turn(self, *, soon: bool = False) -> AsyncIterator[None]:
        """Have a turn; cancelling the wait for it gives it on."""
        if self.taken:
            mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            (self._soon if soon else self._waiting).append(mine)
            try:
                await mine
            except asyncio.CancelledError:
                if mine.done() and not mine.cancelled():
                    self._give_on()
                raise
        self.taken = True
        try:
            yield
        finally:
            self._give_on()

    def _give_on(self) -> None:
        for line in (self._soon, self._waiting):
            while line:
                following = line.popleft()
                if not following.done():
                    following.set_result(None)
                    return
        self.taken = False


class DecoderPool:
    """Children in ``size`` slots, each with its queue: so many decode at once.

    A clip stays with one child while that lives. A child holds clips of one sender alone, so that one which was taken
    over has nothing of another's.
    """

    def __init__(
        self, size: int, memory_bytes: int, *, required: bool = True, clips_a_child: int = _CLIPS_A_CHILD
    ) -> None:
        self._memory_bytes, self._required, self._clips_a_child = memory_bytes, required, clips_a_child
        self._server = ForkServer()
        self._children: list[dict[Sender, DecoderProcess]] = [{} for _ in range(size)]  # the one used last is last
        self._turns = [SlotTurns() for _ in range(size)]
        self._sessions: list[set[int]] = [set() for _ in range(size)]
        self._forgotten: list[list[Session]] = [[] for _ in range(size)]
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[tuple[Answer, Data]]] = set()
        self.progress = 0  # rises with every answer and every sign of life
        self.missing_layers: dict[str, str] = {}  # of the cage, where ``best`` goes on without them
        self.device_fault = ""  # why no graphics card decodes, where one was asked for

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that run."""
        return [child.pid for slot in self._children for child in slot.values() if child.is_running and child.pid]

    @property
    def threads(self) -> int:
        """How many threads may decode a clip: all slots' together for one alone, one where every slot has clips.

        More than there are cores decode nothing sooner, and each holds frames.
        """
        busy = sum(bool(sessions) for sessions in self._sessions)
        return max(1, min(len(self._sessions), len(os.sched_getaffinity(0)), _MOST_THREADS) // max(1, busy))

    async def start(self) -> None:
        """Start a child in every slot; :class:`Transient` when one does not come up, after the others have."""
        starts = [self._ready(slot, _NOBODY) for slot in range(len(self._children))]
        for started in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(started, BaseException):
                raise started

    async def close(self) -> None:
        """End every child and wait for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(child.end() for slot in self._children for child in slot.values()))
        await self._server.close()

    def open(self, descriptor: int, sender: Sender, time: DecodeTime) -> Session:
        """Give a clip a place in the slot that has the fewest."""
        slot = min(range(len(self._sessions)), key=lambda at: len(self._sessions[at]))
        session = Session(next(self._numbers), descriptor, slot, sender, time)
        self._sessions[slot].add(session.number)
        return session

    def close_session(self, session: Session) -> None:
        """Let a clip go; its child is told as soon as it listens."""
        self._sessions[session.slot].discard(session.number)
        if session.opened_in is not None:
            self._forgotten[session.slot].append(session)
            if not self._turns[session.slot].taken:
                self._tell_forgotten(session.slot)

    async def ask(
        self,
        session: Session,
        make_request: MakeRequest,
        expected: type[Expected],
        deadline_s: float,
        take: Callable[[Expected], bool] | None = None,
    ) -> tuple[Expected, Data]:
        """Have a request done by the session's child. ``make_request`` is told whether that has the clip open.

        A request with several answers has them handed to ``take`` as they come, which returns whether another is due;
        the last one is returned. Where it raises, the child ends.

        Cancelled while it waits for its turn, the request is never made. Cancelled later, it runs to its end, so that
        the child's next answer is the next request's; the child has the descriptors by then.
        """
        made = asyncio.Event()
        task = asyncio.create_task(self._ask(session, make_request, expected, deadline_s, take, made))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not made.is_set():
                task.cancel()
                await asyncio.wait([task])
            raise

    async def distrust(self, session: Session) -> None:
        """End the child that a clip is open in, after the request that it does now: its answers make no sense."""
        async with self._turns[session.slot].turn():
            if session.opened_in is not None:
                await session.opened_in.end()

    def _done(self, task: asyncio.Task[tuple[Answer, Data]]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its caller has it, or is gone

    async def _ask(
        self,
        session: Session,
        make_request: MakeRequest,
        expected: type[Expected],
        deadline_s: float,
        take: Callable[[Expected], bool] | None,
        made: asyncio.Event,
    ) -> tuple[Expected, Data]:
        async with self._turns[session.slot].turn(soon=session.has_just_begun):
            child = await self._ready(session.slot, session.sender, session.opened_in)
            is_open = session.opened_in is child
            request, descriptors = make_request(is_open)
            if not is_open:
                descriptors = [session.descriptor, *descriptors]
                child.clips += 1
            session.opened_in = child
            made.set()
            meter = Meter(child.pid or 0)

            def alive() -> None:
                self.progress += 1
                session.time.check(meter.spent_s)

            try:
                index = b"" if is_open else session.index
                room = session.index_bytes if expected is Index else MAX_SMALL_INDEX_BYTES
                answer = await child.ask(request, expected, descriptors, index, deadline_s, alive, room)
                session.answers += 1
                while take is not None and await _is_more(child, partial(take, answer[0]), alive):
                    answer = await child.next_answer(expected, deadline_s, alive)
                alive()
                return answer
            finally:
                session.time.used_s += meter.spent_s
                if child.failed:
                    log.warning("A decoder ended and is replaced.")
                self._tell_forgotten(session.slot)

    def _tell_forgotten(self, slot: int) -> None:
        for session in self._forgotten[slot]:
            if session.opened_in is not None:
                session.opened_in.tell(Forget(session.number))
        self._forgotten[slot].clear()

    async def _ready(self, slot: int, sender: Sender, opened_in: DecoderProcess | None = None) -> DecoderProcess:
        """Return the sender's child, a new one where it failed, or has done its share and is asked to open a clip."""
        children = self._children[slot]
        child = children.pop(sender, None) or (
            children.pop(_NOBODY, None) if sender.decoder == "av" and not sender.shots else None
        )
        if child is not None and child.is_running and (child is opened_in or child.clips < self._clips_a_child):
            children[sender] = child
            return child
        if child is not None:
            await child.end()
        while len(children) >= _CHILDREN_A_SLOT:
            await children.pop(next(iter(children))).end()
        wants_decord, on_device = sender.decoder == "decord", sender.decoder == ON_DEVICE
        request = DecoderRequest(self._memory_bytes, self._required, wants_decord, on_device, sender.shots)
        child = DecoderProcess(self._server, request)
        try:
            await child.start()
        except BaseException:
            await child.end()
            raise
        missing = {name: why for name, why in child.missing_layers.items() if name not in self.missing_layers}
        if missing:
            self.missing_layers |= missing
            log.warning("A decoder runs without: %s.", ", ".join(sorted(missing)))
        if child.device_fault and not self.device_fault:
            self.device_fault = child.device_fault
            log.warning("No graphics card decodes, the processor does: %s.", child.device_fault)
        children[sender] = child
        return child


async def _is_more(child: DecoderProcess, take: Callable[[], bool], alive: Callable[[], None]) -> bool:
    """Hand an answer on and return whether another is due; an error ends the child, whose next answers nobody reads."""
    try:
        if not take():
            return False
        alive()
        return True
    except BaseException:
        await child.end()
        raise
