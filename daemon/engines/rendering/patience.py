"""Deadlines that do not count the time in which this process stood still."""

import asyncio
from typing import TypeVar

Result = TypeVar("Result")


async def patient(work: "asyncio.Future[Result]", limit_s: float) -> Result:
    """Return what ``work`` returns; ``TimeoutError`` after ``limit_s``, with the work going on.

    The limit comes in two halves: where the process stood still, the first passes at once and the second does not.
    """
    for _ in range(2):
        done, _ = await asyncio.wait({work}, timeout=limit_s / 2)
        if done:
            return work.result()
    raise TimeoutError
