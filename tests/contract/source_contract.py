"""The contract of every source. Subclass :class:`SourceContract` and give it a harness; it knows no transport."""

import asyncio
import os
from typing import Protocol

from connectors.contract import Source
from tests.contract.progress import PLAN, done, nothing_comes, rejected, step, take, take_all


class SourceHarness(Protocol):
    """A transport, and the sources over it. At most one source is open at a time."""

    async def put(self, name: str) -> None:
        """Add a clip of this name, whole at once."""
        ...

    async def open(self, *, once: bool = True) -> Source:
        """Return a new source."""
        ...

    async def kill(self, source: Source) -> None:
        """End a source as SIGKILL does: nothing is given back."""
        ...


class SourceContract:
    """The suite. Names follow Benthos's stream tests where there is one."""

    async def test_open_close(self, harness: SourceHarness) -> None:
        source = await harness.open()
        assert await take_all(source.deliveries()) == {}
        await source.close()
        await source.close()

    async def test_close_without_reading(self, harness: SourceHarness) -> None:
        await harness.put("a")
        await (await harness.open()).close()

        source = await harness.open()
        assert set(await take_all(source.deliveries())) == {"a"}
        await source.close()

    async def test_delivers_each_clip_once(self, harness: SourceHarness) -> None:
        names = {f"clip{number}" for number in range(20)}
        for name in names:
            await harness.put(name)
        source = await harness.open()

        found = await take_all(source.deliveries())

        assert set(found) == names
        assert len({delivery.clip.clip_id for delivery in found.values()}) == 20
        assert all(
            (d.position.next_window, d.position.plan_hash, d.position.quarantine) == (0, None, 0)
            for d in found.values()
        )
        assert {delivery.clip.source for delivery in found.values()} == {source.name}
        for delivery in found.values():
            await source.settle(done(delivery))
        await source.close()

    async def test_media_open_any_number_of_times(self, harness: SourceHarness) -> None:
        await harness.put("a")
        source = await harness.open()
        media = (await take_all(source.deliveries()))["a"].clip.media

        descriptors = [media.open(), media.open()]
        contents = [os.read(descriptor, 100) for descriptor in descriptors]
        for descriptor in descriptors:
            os.close(descriptor)

        assert contents[0] == contents[1] != b""
        assert len(contents[0]) == media.size_bytes
        media.close()
        await source.close()

    async def test_settled_clips_never_come_again(self, harness: SourceHarness) -> None:
        for name in "abc":
            await harness.put(name)
        source = await harness.open()
        for delivery in (await take_all(source.deliveries())).values():
            await source.settle(done(delivery))
        await source.close()

        source = await harness.open()
        assert await take_all(source.deliveries()) == {}
        await source.close()

    async def test_settles_out_of_order(self, harness: SourceHarness) -> None:
        for name in "abcd":
            await harness.put(name)
        source = await harness.open()
        found = await take_all(source.deliveries())
        for name in "dbca":
            await source.settle(done(found[name]))
        await harness.kill(source)

        source = await harness.open()
        assert await take_all(source.deliveries()) == {}
        await source.close()

    async def test_settling_twice_is_harmless(self, harness: SourceHarness) -> None:
        await harness.put("a")
        source = await harness.open()
        delivery = (await take_all(source.deliveries()))["a"]

        await source.settle(step(delivery, 0, 1))
        await source.settle(step(delivery, 0, 1))
        await source.settle(done(delivery))
        await source.settle(done(delivery))
        await source.close()

    async def test_rejected_clips_are_finished(self, harness: SourceHarness) -> None:
        await harness.put("a")
        source = await harness.open()
        await source.settle(rejected((await take_all(source.deliveries()))["a"]))
        await harness.kill(source)

        source = await harness.open()
        assert await take_all(source.deliveries()) == {}
        await source.close()

    async def test_checkpoint_capture(self, harness: SourceHarness) -> None:
        """Clips settled before a kill may come again where they follow one that was not; none that was not is lost."""
        for name in "abcde":
            await harness.put(name)
        source = await harness.open()
        found = await take_all(source.deliveries())
        for name in "abd":
            await source.settle(done(found[name]))
        await harness.kill(source)

        source = await harness.open()
        again = await take_all(source.deliveries())

        assert {"c", "e"} <= set(again) <= {"c", "d", "e"}
        assert again["c"].clip.clip_id == found["c"].clip.clip_id
        await source.close()

    async def test_goes_on_at_the_next_window_after_a_kill(self, harness: SourceHarness) -> None:
        await harness.put("a")
        source = await harness.open()
        delivery = (await take_all(source.deliveries()))["a"]
        await source.settle(step(delivery, 0, 2))
        await source.settle(step(delivery, 2, 3))
        await harness.kill(source)

        source = await harness.open()
        again = (await take_all(source.deliveries()))["a"]

        assert (again.position.next_window, again.position.plan_hash) == (3, PLAN)
        await source.close()

    async def test_goes_on_at_the_next_window_after_a_stop(self, harness: SourceHarness) -> None:
        await harness.put("a")
        source = await harness.open()
        delivery = (await take_all(source.deliveries()))["a"]
        await source.drain()
        await source.settle(step(delivery, 0, 2))
        await source.close()

        source = await harness.open()
        again = (await take_all(source.deliveries()))["a"]

        assert (again.position.next_window, again.position.plan_hash, again.clip.clip_id) == (
            2,
            PLAN,
            delivery.clip.clip_id,
        )
        await source.settle(done(again))
        await source.close()

    async def test_quarantine_outlives_a_kill(self, harness: SourceHarness) -> None:
        await harness.put("a")
        for expected in (0, 1, 2):
            source = await harness.open()
            delivery = (await take_all(source.deliveries()))["a"]
            assert delivery.position.quarantine == expected
            await source.quarantine(delivery)
            await harness.kill(source)

    async def test_quarantine_and_position_keep_each_other(self, harness: SourceHarness) -> None:
        await harness.put("a")
        source = await harness.open()
        delivery = (await take_all(source.deliveries()))["a"]
        await source.settle(step(delivery, 0, 1))
        await source.quarantine(delivery)
        await harness.kill(source)

        source = await harness.open()
        again = (await take_all(source.deliveries()))["a"]
        assert (again.position.next_window, again.position.quarantine) == (1, 1)
        await source.settle(step(again, 1, 2))
        await source.close()

        source = await harness.open()
        assert (await take_all(source.deliveries()))["a"].position.quarantine == 1
        await source.close()

    async def test_drain_ends_a_source_that_waits(self, harness: SourceHarness) -> None:
        source = await harness.open(once=False)
        reading = asyncio.create_task(take_all(source.deliveries()))
        await asyncio.sleep(0.05)
        await source.drain()

        assert await reading == {}
        await source.close()

    async def test_drain_stops_deliveries_and_not_settlements(self, harness: SourceHarness) -> None:
        for name in "ab":
            await harness.put(name)
        source = await harness.open(once=False)
        deliveries = source.deliveries()
        taken = await take(deliveries, 1)
        await source.drain()

        assert [name async for name in deliveries] == []
        for delivery in taken.values():
            await source.settle(done(delivery))
        await source.close()
        source = await harness.open()
        assert len(await take_all(source.deliveries())) == 1
        await source.close()

    async def test_clips_come_while_it_runs(self, harness: SourceHarness) -> None:
        source = await harness.open(once=False)
        deliveries = source.deliveries()
        waiting = asyncio.create_task(take(deliveries, 2))
        await asyncio.sleep(0.05)
        await harness.put("a")
        await harness.put("b")

        found = await waiting

        assert set(found) == {"a", "b"}
        assert await nothing_comes(deliveries)
        await source.close()

    async def test_saturated_without_settlement(self, harness: SourceHarness) -> None:
        """Nothing is lost or repeated where a reader takes all that it can and settles late."""
        names = {f"clip{number:02d}" for number in range(60)}
        for name in names:
            await harness.put(name)
        source = await harness.open()
        found = await take_all(source.deliveries())

        await asyncio.gather(*(source.settle(done(delivery)) for delivery in found.values()))
        await harness.kill(source)

        assert set(found) == names
        source = await harness.open()
        assert await take_all(source.deliveries()) == {}
        await source.close()
