"""Streams keep the contracts, where these are not about clips of several windows: a stream's clip has one."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.contract import Caption, Delivery, Rejection, Route, Sink
from connectors.memory import MemorySink
from connectors.stream.route import StreamRoute
from connectors.stream.source import StreamSource
from tests.contract.progress import done, take_all
from tests.contract.route_contract import RouteContract
from tests.contract.source_contract import SourceContract
from tests.unit.connectors.stream.windows import FIRST, Stream, described

pytestmark = pytest.mark.timeout(20)


class _Named(StreamSource):
    """A source whose windows have the names under which the suite put them; asked ``once``, it ends with the last."""

    names: dict[int, str]
    once: bool

    async def deliveries(self) -> AsyncIterator[Delivery]:
        await self.open()
        if self.once and self._next_index - FIRST >= len(self.names):
            return
        async for delivery in super().deliveries():
            stream = delivery.clip.stream
            assert stream is not None
            delivery.clip.media.name = self.names[stream.index]  # type: ignore[misc]
            if self.once and stream.index - FIRST == len(self.names) - 1:
                await self.drain()
            yield delivery


class StreamHarness:
    """A recording, in which each clip is the next window."""

    def __init__(self, folder: Path) -> None:
        self.stream, self.names = Stream(folder), dict[int, str]()

    async def put(self, name: str) -> None:
        index = FIRST + len(self.names)
        self.names[index] = name
        self.stream.record(index)
        self.stream.know(len(self.names))

    async def open(self, *, once: bool = True) -> StreamSource:
        source = self.stream.source()
        source.__class__ = _Named
        assert isinstance(source, _Named)
        source.names, source.once = self.names, once
        return source

    async def kill(self, source: Any) -> None:
        return  # nothing is held that a killed program would leave behind


class StreamRouteHarness:
    """The routes of a stream to a sink in memory."""

    def __init__(self, folder: Path) -> None:
        self.source, self.sink = StreamHarness(folder), MemorySink()

    async def put(self, name: str) -> None:
        await self.source.put(name)

    async def open(self, *, once: bool = True, wrap: Callable[[Any], Any] | None = None) -> Route:
        sink: Sink = wrap(self.sink) if wrap else self.sink
        return StreamRoute(await self.source.open(once=once), sink)

    async def kill(self, route: Route) -> None:
        return

    async def read(self, name: str) -> tuple[list[Caption], list[Rejection]]:
        found = (one for one in self.sink.captions.values() if one[0].text.endswith(f" of {name}"))
        return next(found, []), []


class TestStreamSource(SourceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> StreamHarness:
        return StreamHarness(tmp_path)

    test_goes_on_at_the_next_window_after_a_kill = None  # type: ignore[assignment]  # a clip has one window
    test_goes_on_at_the_next_window_after_a_stop = None  # type: ignore[assignment]  # a clip has one window
    test_quarantine_and_position_keep_each_other = None  # type: ignore[assignment]  # a clip has one window


class TestStreamRoute:
    """Those of the suite that hold for clips of one window which end in their order."""

    @pytest.fixture
    def route_harness(self, tmp_path: Path) -> StreamRouteHarness:
        return StreamRouteHarness(tmp_path)

    test_a_blocked_sink_acknowledges_nothing = RouteContract.test_a_blocked_sink_acknowledges_nothing
    test_a_failing_sink_acknowledges_nothing = RouteContract.test_a_failing_sink_acknowledges_nothing
    test_a_slow_sink_loses_nothing = RouteContract.test_a_slow_sink_loses_nothing

    async def test_what_was_published_never_comes_again(self, route_harness: StreamRouteHarness) -> None:
        for name in "abc":
            await route_harness.put(name)
        route = await route_harness.open()
        found = await take_all(route.deliveries())
        await route.publish(done(found["a"], 1))
        await route.publish(described(found["b"]))
        await route_harness.kill(route)

        assert set(await take_all((await route_harness.open()).deliveries())) == {"c"}
