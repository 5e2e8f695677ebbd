"""The real daemon, run once, which comes to harm in the task of one clip: CONFIG FAULT NAME.

``NAME`` is part of the clip's id or name. A fault in the engine strikes at the clip's third window.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from connectors.contract import Clip
from daemon import build as assembly
from daemon.config.file import load
from daemon.service import logs
from daemon.supervisor import Supervisor
from neva import registration
from tests.chaos.kill_points import Handing, Killer


class Panic(BaseException):
    """What Rust's panics are to Python."""


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _recurse() -> None:
    _recurse()


def _raise(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


FAULTS: dict[str, tuple[str, Callable[[], None]]] = {
    "killed_at_plan": ("plan", _kill),
    "killed_at_engine": ("engine", _kill),
    "killed_at_publish": ("publish", _kill),
    "killed_when_advanced": ("second publish", _kill),
    "recursion_at_plan": ("plan", _recurse),
    "memory_at_publish": ("publish", _raise(MemoryError())),
    "key_at_settle": ("settle", _raise(KeyError("no such clip"))),
    "panic_at_engine": ("engine", _raise(Panic("called `Option::unwrap()` on a `None` value"))),
    "none": ("nowhere", _kill),
}


class Struck:
    """The clip that brings harm, and the place where it does."""

    def __init__(self, fault: str, name: str) -> None:
        self._at, self._strike = FAULTS[fault]
        self._name = name
        self.clip_id = ""

    def is_it(self, clip: Clip) -> bool:
        """Whether this clip is the one."""
        found = self._name in clip.clip_id or self._name in clip.media.name
        self.clip_id = clip.clip_id if found else self.clip_id
        return found

    def passed(self, place: str, clip: Clip) -> None:
        """Strike where it is the clip and the place."""
        if self.is_it(clip) and place == self._at:
            self._strike()

    def publishes(self, progress: Any) -> None:
        """Strike before the clip's next captions are published, or before those that follow others of this run."""
        delivery = progress.delivery
        if progress.rejection is None:
            self.passed("publish", delivery.clip)
        if progress.next_window - len(progress.captions) > delivery.position.next_window:
            self.passed("second publish", delivery.clip)

    def requested(self, request_id: str) -> None:
        """Strike at the clip's third window."""
        if self.clip_id and request_id.startswith(f"{self.clip_id}/2/") and self._at == "engine":
            self._strike()


def around(components: Any, struck: Struck) -> Any:
    """Return the components with the fault in them."""
    never = Killer("never", 0)

    class Sampler(Handing):
        async def plan(self, clip: Clip, *rest: Any) -> Any:
            struck.passed("plan", clip)
            return await self.inner.plan(clip, *rest)

    class Engine(Handing):
        async def describe(self, frames: Any, prompt: Any, request_id: str, *rest: Any) -> Any:
            struck.requested(request_id)
            return await self.inner.describe(frames, prompt, request_id, *rest)

    class Route(Handing):
        async def publish(self, progress: Any) -> None:
            struck.publishes(progress)
            await self.inner.publish(progress)

    class Source(Handing):
        async def publish(self, progress: Any, records: Any) -> None:
            if progress.rejection is None:
                struck.passed("settle", progress.delivery.clip)
            await self.inner.publish(progress, records)

        async def settle(self, progress: Any) -> None:
            if progress.rejection is None:
                struck.passed("settle", progress.delivery.clip)
            await self.inner.settle(progress)

    for route in components.routes:
        inner: Any = getattr(route, "route", route)
        inner.source = Source(inner.source, never)
    return replace(
        components,
        routes=[Route(route, never) for route in components.routes],
        sampler=Sampler(components.sampler, never),
        engine=Engine(components.engine, never),
    )


def main() -> int:
    """Return the daemon's exit code, if it lives to have one."""
    registration.register()
    settings = load(Path(sys.argv[1]))
    logs.set_up(settings.log)

    async def work() -> int:
        components = assembly.build_components(settings, once=True)
        return int(await Supervisor(around(components, Struck(sys.argv[2], sys.argv[3]))).run())

    return asyncio.run(work())


if __name__ == "__main__":
    sys.exit(main())
