"""Progress made by hand, as a pipeline would make it."""

import asyncio
from collections.abc import AsyncIterator

from connectors.contract import Caption, CaptionStatus, Delivery, Progress, WindowSpan
from connectors.errors import Poison, Reason

PLAN = "plan-1"
NS = 1_000_000_000


def caption(delivery: Delivery, index: int, plan_hash: str = PLAN, text: str | None = None) -> Caption:
    clip = delivery.clip
    said = f"window {index} of {clip.media.name}" if text is None else text
    span = WindowSpan(index, index * NS, (index + 1) * NS)
    caption_id = f"{clip.clip_id}-{index}-{plan_hash}"
    return Caption(
        caption_id, clip.clip_id, clip.source, span, said, CaptionStatus.SUCCESS, "fake", "prompt", plan_hash
    )


def step(delivery: Delivery, first: int, exclusive_end: int, *, last: bool = False, plan_hash: str = PLAN) -> Progress:
    captions = [caption(delivery, index, plan_hash) for index in range(first, exclusive_end)]
    return Progress(delivery, captions, exclusive_end, plan_hash, last)


def done(delivery: Delivery, windows: int = 3) -> Progress:
    """Return the last progress of a delivery, from where it goes on."""
    first = delivery.position.next_window if delivery.position.plan_hash == PLAN else 0
    return step(delivery, first, windows, last=True)


def rejected(delivery: Delivery, next_window: int = 0) -> Progress:
    fault = Poison(Reason.CORRUPT, "it can't be decoded", origin="sampler")
    return Progress.rejected(delivery, fault, next_window=next_window, plan_hash=PLAN)


def name_of(delivery: Delivery) -> str:
    return delivery.clip.media.name


async def take(deliveries: AsyncIterator[Delivery], count: int, within_s: float = 10.0) -> dict[str, Delivery]:
    """Return the next deliveries by name."""
    async with asyncio.timeout(within_s):
        found = [await anext(deliveries) for _ in range(count)]
    return {name_of(delivery): delivery for delivery in found}


async def take_all(deliveries: AsyncIterator[Delivery], within_s: float = 10.0) -> dict[str, Delivery]:
    """Return every delivery of a source that ends by itself."""
    async with asyncio.timeout(within_s):
        found = [delivery async for delivery in deliveries]
    assert len(found) == len({name_of(delivery) for delivery in found}), "a clip came twice"
    return {name_of(delivery): delivery for delivery in found}


async def nothing_comes(deliveries: AsyncIterator[Delivery], within_s: float = 0.2) -> bool:
    """Whether no delivery comes for a while. The iterator can't be used afterwards."""
    try:
        async with asyncio.timeout(within_s):
            await anext(deliveries)
    except (TimeoutError, StopAsyncIteration):
        return True
    return False
