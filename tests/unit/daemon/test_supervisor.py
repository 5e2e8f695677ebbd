"""What nobody foresaw ends the program as a bug, with its stack in the log, and what is in quarantine is told apart."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.errors import EngineLost, ExitCode, Poison, Transient
from daemon.service.sdnotify import ServiceManager
from daemon.supervisor import Components, Supervisor


class Part:
    """A sampler, an engine or a sink that does nothing; ``fault`` is raised as it starts."""

    model_id = "none"
    planner, rendering = SimpleNamespace(frame_size=None), None

    def __init__(self, fault: BaseException | None = None) -> None:
        self.fault = fault

    async def start(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def wait_dead(self) -> None:
        await asyncio.Event().wait()

    def scale_by(self, sizer: Any) -> None:
        return

    async def close(self) -> None:
        return


class Loop:
    """A main loop whose tasks fail."""

    def __init__(self, *faults: BaseException) -> None:
        self.faults = faults
        self.quarantined = False
        self.in_flight = self

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for fault in self.faults:
                tasks.create_task(self.fail(fault))

    async def fail(self, fault: BaseException) -> None:
        raise fault

    async def quarantine(self) -> None:
        self.quarantined = True


def supervised(loop: Loop, start: BaseException | None = None) -> Supervisor:
    parts: Any = Part(), Part(start), Part()
    make: Any = lambda _: loop  # noqa: E731
    return Supervisor(Components(*parts, routes=(), make_pipeline=make, drain_s=1.0, manager=ServiceManager("")))


@pytest.mark.parametrize(
    "fault", [RecursionError("deep"), ValueError("5,000 digits"), OSError(5, "EIO"), Transient("x")]
)
async def test_what_nobody_foresaw_is_a_bug_with_its_stack(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    loop = Loop(fault)

    assert await supervised(loop).run() is ExitCode.BUG

    (told,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert told.exc_info is not None
    assert type(fault).__name__ in caplog.text
    assert not loop.quarantined


async def test_a_start_that_fails_unforeseen_is_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    assert await supervised(Loop(), RuntimeError("no GPU")).run() is ExitCode.BUG
    assert "no GPU" in caplog.text


@pytest.mark.parametrize("fault", [None, RuntimeError("no GPU")])
async def test_streams_are_recorded_while_the_model_is_loaded_and_closed_where_it_is_not(
    fault: Exception | None,
) -> None:
    said = []

    class Noted(Part):
        async def start(self) -> None:
            said.append("engine")
            await super().start()

    class Recorded:
        async def begin(self) -> None:
            said.append("begin")

        async def close(self) -> None:
            said.append("close")

    parts: Any = Part(), Noted(fault), Part()
    make: Any = lambda _: Loop()  # noqa: E731
    routes: Any = (Recorded(),)

    await Supervisor(Components(*parts, routes=routes, make_pipeline=make, drain_s=1.0)).run()

    assert said[:3] == ["begin", "engine", "close"]


async def test_a_panic_of_a_library_is_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    class Panic(BaseException):
        """What Rust's panics are to Python."""

    assert await supervised(Loop(), Panic("index out of bounds")).run() is ExitCode.BUG
    assert await supervised(Loop(Panic("index out of bounds"))).run() is ExitCode.BUG
    assert "index out of bounds" in caplog.text


async def test_what_is_meant_to_end_the_program_wins_over_what_comes_with_it() -> None:
    loop = Loop(Poison("corrupt", "x"), EngineLost("the engine died"))

    assert await supervised(loop).run() is ExitCode.ENGINE_LOST
    assert loop.quarantined
