"""Answers to those in the event loop who wait for a thread."""

import asyncio
from collections.abc import Iterable


def answer(
    loop: asyncio.AbstractEventLoop,
    waiters: "Iterable[asyncio.Future[None] | None]",
    failure: BaseException | None = None,
) -> None:
    """Let everyone who waits go on, or fail. To be called from any thread; after the loop's end nobody waits."""
    waiting = [waiter for waiter in waiters if waiter is not None]
    if waiting and not loop.is_closed():
        loop.call_soon_threadsafe(_wake, waiting, failure)


def _wake(waiting: "Iterable[asyncio.Future[None]]", failure: BaseException | None) -> None:
    for waiter in waiting:
        if waiter.done():
            continue
        if failure is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(failure)
