"""A coroutine that runs in its caller's own task, and that a caller who is cancelled need not wait for."""

import asyncio
import contextlib
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, Generic, TypeVar

_ABORT_S = 1.0  # how long what is cancelled may take to let go; it is left behind then

T = TypeVar("T")


class LettingGo(Generic[T]):
    """Awaits ``work`` as ``await work`` does, without a task of its own.

    Cancelling cancels the work, which then goes on in a task of its own: if it does not let go in time, it is left
    behind there, its end nobody's business.
    """

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, Any, T]:
        while True:
            try:
                waits_for = self._work.send(None)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                yield waits_for
            except asyncio.CancelledError as cancelled:
                return (yield from self._let_go(cancelled).__await__())

    async def _let_go(self, cancelled: asyncio.CancelledError) -> T:
        rest = asyncio.get_running_loop().create_task(_thrown_into(self._work, cancelled))
        rest.add_done_callback(_ended)
        await asyncio.wait({rest}, timeout=_ABORT_S)
        if not rest.done():
            raise cancelled
        return rest.result()


@coroutine
def _thrown_into(work: Coroutine[Any, Any, T], cancelled: asyncio.CancelledError) -> Generator[Any, Any, T]:
    """Go on with a coroutine that is cancelled."""
    try:
        yield work.throw(cancelled)
        while True:
            yield work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result


def _ended(rest: "asyncio.Task[Any]") -> None:
    with contextlib.suppress(asyncio.CancelledError):
        rest.exception()  # seen
