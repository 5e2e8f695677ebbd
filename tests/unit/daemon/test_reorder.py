"""Windows come out in the order they went in."""

import asyncio

import pytest

from connectors.contract import Caption, CaptionStatus, WindowSpan
from connectors.errors import EngineLost, Poison, Transient
from daemon.reorder import Batch, ReorderBuffer


def caption(index: int) -> Caption:
    span = WindowSpan(index, index, index + 1)
    return Caption(str(index), "clip", "source", span, "text", CaptionStatus.SUCCESS, "model", "prompt", "plan")


async def after(event: asyncio.Event, index: int, error: Exception | None = None) -> list[Caption]:
    await event.wait()
    if error is not None:
        raise error
    return [caption(index)]


def indices(batch: Batch) -> list[int]:
    return [one.window.index for one in batch.captions]


async def done(index: int) -> list[Caption]:
    return [caption(index)]


async def test_what_is_done_early_waits_for_the_head_and_then_goes_with_it() -> None:
    line, gates = ReorderBuffer(3), [asyncio.Event() for _ in range(3)]
    for index, gate in enumerate(gates):
        line.put(asyncio.create_task(after(gate, index)))
    line.end()
    gates[1].set()
    gates[2].set()
    await asyncio.sleep(0)
    gates[0].set()

    batches = [(indices(batch), batch.fault, batch.last) async for batch in line.batches()]

    assert batches == [([0, 1, 2], None, True)]


async def test_a_fault_comes_after_the_captions_before_it() -> None:
    line, gate = ReorderBuffer(2), asyncio.Event()
    gate.set()
    fault = Transient("later")
    line.put(asyncio.create_task(after(gate, 0)))
    line.put(asyncio.create_task(after(gate, 1, fault)))
    await asyncio.sleep(0.01)

    batches = [batch async for batch in line.batches()]

    assert [indices(batch) for batch in batches] == [[0]]
    assert batches[0].fault is fault
    assert batches[0].last


async def test_a_dead_engine_is_no_fault_of_a_window() -> None:
    line, gate = ReorderBuffer(2), asyncio.Event()
    gate.set()
    line.put(asyncio.create_task(after(gate, 0, EngineLost("dead"))))

    with pytest.raises(EngineLost):
        async for _ in line.batches():
            pass


async def test_abandoning_aborts_what_is_in_flight() -> None:
    line, gate = ReorderBuffer(2), asyncio.Event()
    task = asyncio.create_task(after(gate, 0))
    line.put(task)

    await line.abandon()

    assert task.cancelled()


@pytest.mark.parametrize("error", [Poison("corrupt", "cut"), Transient("later")])
async def test_the_feeders_fault_comes_last_after_every_window(error: Poison | Transient) -> None:
    line, gate = ReorderBuffer(5), asyncio.Event()
    line.put(asyncio.create_task(after(gate, 0)))
    line.end(error)
    asyncio.get_running_loop().call_later(0.01, gate.set)

    batches = [batch async for batch in line.batches()]

    assert [indices(batch) for batch in batches] == [[0]]
    assert (batches[-1].fault, batches[-1].last) == (error, True)


async def test_a_bug_in_the_feeder_is_raised_after_the_windows_before_it() -> None:
    line = ReorderBuffer(5)
    line.put(asyncio.create_task(done(0)))
    seen = []

    async def take() -> None:
        async for batch in line.batches():
            seen.append(indices(batch))
            line.end(RuntimeError("a bug"))

    with pytest.raises(RuntimeError, match="a bug"):
        await take()
    assert seen == [[0]]


async def test_captions_do_not_wait_for_windows_that_are_not_decoded_yet() -> None:
    line = ReorderBuffer(2)
    line.put(asyncio.create_task(done(0)))
    batches = line.batches()

    async with asyncio.timeout(60):
        first = await anext(batches)

    assert (indices(first), first.last) == ([0], False)
    line.put(asyncio.create_task(done(1)))
    line.end()
    assert [(indices(batch), batch.last) async for batch in batches] == [([1], True)]


async def test_the_batch_with_the_last_window_waits_for_how_the_feeder_ended() -> None:
    line, fault = ReorderBuffer(1), Poison("corrupt", "the end is damaged")
    line.put(asyncio.create_task(done(0)))
    asyncio.get_running_loop().call_later(0.01, line.end, fault)

    assert [batch async for batch in line.batches()] == [Batch([caption(0)], fault, last=True)]


async def test_a_clip_without_windows_left_has_one_empty_last_batch() -> None:
    line = ReorderBuffer(0)
    line.end()

    assert [batch async for batch in line.batches()] == [Batch([], last=True)]


async def test_a_drain_ends_without_a_fault_before_the_last_window() -> None:
    line = ReorderBuffer(3)
    line.put(asyncio.create_task(done(0)))
    await asyncio.sleep(0.01)
    line.end()

    assert [(indices(batch), batch.fault, batch.last) async for batch in line.batches()] == [([0], None, True)]
