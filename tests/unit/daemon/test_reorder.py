"""Windows come out in the order they went in."""

import asyncio

import pytest

from connectors.contract import Caption, CaptionStatus, WindowSpan
from connectors.errors import EngineLost, Transient
from daemon.reorder import InOrder


def caption(index: int) -> Caption:
    span = WindowSpan(index, index, index + 1)
    return Caption(str(index), "clip", "source", span, "text", CaptionStatus.SUCCESS, "model", "prompt", "plan")


async def after(event: asyncio.Event, index: int, error: Exception | None = None) -> Caption:
    await event.wait()
    if error is not None:
        raise error
    return caption(index)


async def test_what_is_done_early_waits_for_the_head_and_then_goes_with_it() -> None:
    line, gates = InOrder(), [asyncio.Event() for _ in range(3)]
    for index, gate in enumerate(gates):
        line.put(asyncio.create_task(after(gate, index)))
    line.end()
    gates[1].set()
    gates[2].set()
    await asyncio.sleep(0)
    gates[0].set()

    heads = [([one.window.index for one in captions], fault) async for captions, fault in line.heads()]

    assert heads == [([0, 1, 2], None)]


async def test_a_fault_comes_after_the_captions_before_it() -> None:
    line, gate = InOrder(), asyncio.Event()
    gate.set()
    fault = Transient("later")
    line.put(asyncio.create_task(after(gate, 0)))
    line.put(asyncio.create_task(after(gate, 1, fault)))
    await asyncio.sleep(0.01)

    async for captions, found in line.heads():
        assert [one.window.index for one in captions] == [0]
        assert found is fault
        break


async def test_a_dead_engine_is_no_fault_of_a_window() -> None:
    line, gate = InOrder(), asyncio.Event()
    gate.set()
    line.put(asyncio.create_task(after(gate, 0, EngineLost("dead"))))

    with pytest.raises(EngineLost):
        async for _ in line.heads():
            pass


async def test_abandoning_aborts_what_is_in_flight() -> None:
    line, gate = InOrder(), asyncio.Event()
    task = asyncio.create_task(after(gate, 0))
    line.put(task)

    await line.abandon()

    assert task.cancelled()
