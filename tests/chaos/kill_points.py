"""A daemon that is killed at a named point between two of its parts: no hook in the program itself.

Each wrapper stands where the real source, sink, sampler or engine stands, hands every call on to it, and ends the
process without any clean-up when its point is passed for the n-th time.
"""

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

POINTS = (
    "after_receive",
    "after_open",
    "mid_decode",
    "after_frames",
    "before_generate",
    "after_generate",
    "before_publish",
    "publish_in_flight",
    "after_publish",
    "after_settle",
    "before_commit",
    "after_commit",
)
EXIT_CODE = 137  # what SIGKILL looks like from outside


@dataclass
class Killer:
    """Ends the process when ``point`` is passed for the ``countdown``-th time."""

    point: str
    countdown: int

    def passed(self, point: str) -> None:
        """Note that a point is passed."""
        if point == self.point:
            self.countdown -= 1
            if self.countdown <= 0:
                os._exit(EXIT_CODE)

    def within(self, point: str, at_most_s: float) -> None:
        """Let the process end some time after a step has begun, whatever it is doing then."""
        if point == self.point:
            self.countdown -= 1
            if self.countdown == 0:
                threading.Timer(random.uniform(0, at_most_s), os._exit, [EXIT_CODE]).start()


class Handing:
    """Hands on to ``inner`` whatever it does not do itself."""

    def __init__(self, inner: Any, killer: Killer) -> None:
        self.inner, self.killer = inner, killer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class KillingSource(Handing):
    """Receive and commit."""

    async def deliveries(self) -> AsyncIterator[Any]:
        """Hand on each delivery."""
        async for delivery in self.inner.deliveries():
            self.killer.passed("after_receive")
            yield delivery

    async def settle(self, progress: Any) -> None:
        """Hand on the position."""
        self.killer.passed("before_commit")
        await self.inner.settle(progress)
        self.killer.passed("after_commit")


class KillingSink(Handing):
    """Publish."""

    async def write(self, progress: Any) -> None:
        """Hand on the captions."""
        self.killer.passed("before_publish")
        self.killer.within("publish_in_flight", 0.004)  # about what a write and its fsync take
        await self.inner.write(progress)
        self.killer.passed("after_publish")


class KillingRoute(Handing):
    """Settle: the route's publish has returned."""

    async def publish(self, progress: Any) -> None:
        """Hand on the progress."""
        await self.inner.publish(progress)
        self.killer.passed("after_settle")


class KillingSampler(Handing):
    """Open and decode."""

    async def plan(self, *args: Any) -> Any:
        """Hand on the plan."""
        plan = await self.inner.plan(*args)
        self.killer.passed("after_open")
        return plan

    async def frame_sets(self, plan: Any, first_window: int = 0) -> AsyncIterator[Any]:
        """Hand on the frames."""
        self.killer.within("mid_decode", 0.02)
        async for window in self.inner.frame_sets(plan, first_window):
            self.killer.passed("after_frames")
            yield window


class KillingEngine(Handing):
    """Generate."""

    async def describe(self, *args: Any) -> Any:
        """Hand on the request."""
        self.killer.passed("before_generate")
        done = await self.inner.describe(*args)
        await asyncio.sleep(0)
        self.killer.passed("after_generate")
        return done
