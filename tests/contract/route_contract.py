"""The contract of every route. Subclass :class:`RouteContract` and give it a harness."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from connectors.contract import Caption, Rejection, Route
from connectors.errors import Transient
from connectors.memory import BlockingSink, FailingSink, SlowSink
from tests.contract.progress import PLAN, done, rejected, step, take, take_all


class RouteHarness(Protocol):
    """A source's transport and a sink's, and the routes between them. At most one route is open at a time."""

    async def put(self, name: str) -> None:
        """Add a clip of this name, whole at once."""
        ...

    async def open(self, *, once: bool = True, wrap: Callable[[Any], Any] | None = None) -> Route:
        """Return a new route; ``wrap`` stands between it and its sink. Skip where a route takes no wrapped sink."""
        ...

    async def kill(self, route: Route) -> None:
        """End a route as SIGKILL does: nothing is given back."""
        ...

    async def read(self, name: str) -> tuple[list[Caption], list[Rejection]]:
        """Return what is durable of a clip, as a reader sees it that drops repeated ids."""
        ...


async def indices(harness: RouteHarness, name: str) -> list[int]:
    captions, _ = await harness.read(name)
    return [caption.window.index for caption in captions]


class RouteContract:
    """The suite."""

    async def test_every_clip_ends(self, route_harness: RouteHarness) -> None:
        for name in ("a", "b", "c"):
            await route_harness.put(name)
        route = await route_harness.open()
        found = await take_all(route.deliveries())
        await route.publish(done(found["b"]))
        await route.publish(step(found["a"], 0, 1))
        await route.publish(rejected(found["a"], next_window=1))
        await route.publish(rejected(found["c"]))
        await route.close()

        route = await route_harness.open()
        assert await take_all(route.deliveries()) == {}
        await route.close()
        assert await indices(route_harness, "b") == [0, 1, 2]
        assert await indices(route_harness, "a") == [0]
        for name, count in {"a": 1, "b": 0, "c": 1}.items():
            assert len((await route_harness.read(name))[1]) == count

    async def test_goes_on_after_the_last_publish(self, route_harness: RouteHarness) -> None:
        """A kill loses nothing that a publish returned for, and repeats nothing of it."""
        await route_harness.put("a")
        for first in range(3):
            route = await route_harness.open()
            delivery = (await take_all(route.deliveries()))["a"]
            assert (delivery.position.next_window, delivery.position.plan_hash) == (
                (first, PLAN) if first else (0, None)
            )
            await route.publish(step(delivery, first, first + 1))
            await route_harness.kill(route)

        route = await route_harness.open()
        delivery = (await take_all(route.deliveries()))["a"]
        await route.publish(step(delivery, 3, 4, last=True))
        await route.close()
        assert await indices(route_harness, "a") == [0, 1, 2, 3]

    async def test_checkpoint_capture(self, route_harness: RouteHarness) -> None:
        for name in "abcde":
            await route_harness.put(name)
        route = await route_harness.open()
        found = await take_all(route.deliveries())
        for name in "dba":
            await route.publish(done(found[name]))
        await route_harness.kill(route)

        route = await route_harness.open()
        again = await take_all(route.deliveries())
        assert {"c", "e"} <= set(again) <= {"c", "d", "e"}
        for delivery in again.values():
            await route.publish(done(delivery))
        await route.close()
        for name in "abcde":
            assert await indices(route_harness, name) == [0, 1, 2]

    async def test_another_plan_replaces_what_was_written(self, route_harness: RouteHarness) -> None:
        """Captions of the plan before stay unread or go; those of the new one are whole."""
        await route_harness.put("a")
        route = await route_harness.open()
        delivery = (await take_all(route.deliveries()))["a"]
        await route.publish(step(delivery, 0, 2, plan_hash="older"))
        await route_harness.kill(route)

        route = await route_harness.open()
        delivery = (await take_all(route.deliveries()))["a"]
        assert (delivery.position.next_window, delivery.position.plan_hash) == (2, "older")
        await route.publish(step(delivery, 0, 1))
        await route.publish(step(delivery, 1, 3, last=True))
        await route.close()

        captions, _ = await route_harness.read("a")
        assert [c.window.index for c in captions if c.plan_hash == PLAN] == [0, 1, 2]

    async def test_clips_in_quarantine_run_again(self, route_harness: RouteHarness) -> None:
        await route_harness.put("a")
        route = await route_harness.open()
        delivery = (await take_all(route.deliveries()))["a"]
        await route.publish(step(delivery, 0, 1))
        await route.quarantine(delivery)
        await route_harness.kill(route)

        route = await route_harness.open()
        again = (await take_all(route.deliveries()))["a"]
        assert (again.position.quarantine, again.position.next_window) == (1, 1)
        await route.publish(rejected(again, next_window=1))
        await route.close()

    async def test_a_blocked_sink_acknowledges_nothing(self, route_harness: RouteHarness) -> None:
        await route_harness.put("a")
        sinks: list[BlockingSink] = []

        def block(sink: Any) -> BlockingSink:
            sinks.append(BlockingSink(sink))
            return sinks[-1]

        route = await route_harness.open(wrap=block)
        delivery = (await take_all(route.deliveries()))["a"]
        publishing = asyncio.create_task(route.publish(done(delivery)))
        await sinks[0].waiting.wait()
        assert not publishing.done()
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await route.close()

        route = await route_harness.open()
        again = (await take_all(route.deliveries()))["a"]
        assert again.position.next_window == 0
        await route.publish(done(again))
        await route.close()
        assert await indices(route_harness, "a") == [0, 1, 2]

    async def test_a_failing_sink_acknowledges_nothing(self, route_harness: RouteHarness) -> None:
        await route_harness.put("a")
        route = await route_harness.open(wrap=lambda sink: FailingSink(sink, [Transient("refused"), None, None]))
        delivery = (await take_all(route.deliveries()))["a"]
        with pytest.raises(Transient, match="refused"):
            await route.publish(done(delivery))
        await route.publish(done(delivery))
        await route.close()

        route = await route_harness.open()
        assert await take_all(route.deliveries()) == {}
        await route.close()
        assert await indices(route_harness, "a") == [0, 1, 2]

    async def test_a_slow_sink_loses_nothing(self, route_harness: RouteHarness) -> None:
        names = [f"clip{number}" for number in range(6)]
        for name in names:
            await route_harness.put(name)
        route = await route_harness.open(wrap=lambda sink: SlowSink(sink, 0.01))
        found = await take_all(route.deliveries())
        await asyncio.gather(*(route.publish(done(delivery)) for delivery in found.values()))
        await route.close()

        for name in names:
            assert await indices(route_harness, name) == [0, 1, 2]

    async def test_a_stop_keeps_the_position(self, route_harness: RouteHarness) -> None:
        for name in "ab":
            await route_harness.put(name)
        route = await route_harness.open(once=False)
        deliveries = route.deliveries()
        found = await take(deliveries, 2)
        await route.publish(step(found["a"], 0, 1))
        await route.drain()
        assert [delivery async for delivery in deliveries] == []
        await route.publish(step(found["b"], 0, 2))
        await route.close()

        route = await route_harness.open()
        again = await take_all(route.deliveries())
        assert {name: delivery.position.next_window for name, delivery in again.items()} == {"a": 1, "b": 2}
        await route.close()
