"""The contract of every sink. Subclass :class:`SinkContract` and give it a harness."""

import asyncio
from typing import Protocol

from connectors.contract import Caption, Clip, Delivery, Progress, Rejection, Sink
from connectors.media.bytes import BytesMedia
from tests.contract.progress import caption, rejected, step


class SinkHarness(Protocol):
    """Where a sink writes to, and what a reader finds there. Readers drop repeated caption ids, as messages say."""

    async def open(self) -> Sink:
        """Return a sink."""
        ...

    async def read(self, clip: Clip) -> tuple[list[Caption], list[Rejection]]:
        """Return what is durable of a clip, in order."""
        ...


def delivery_of(name: str, clip_id: str | None = None) -> Delivery:
    return Delivery(Clip(clip_id or f"id-{name}", "inbox", BytesMedia(name, b"clip"), 0))


class SinkContract:
    """The suite."""

    async def test_open_close(self, sink_harness: SinkHarness) -> None:
        await (await sink_harness.open()).close()

    async def test_what_was_written_is_durable(self, sink_harness: SinkHarness) -> None:
        sink, delivery = await sink_harness.open(), delivery_of("a.mp4")
        expected = [caption(delivery, index) for index in range(3)]

        await sink.write(step(delivery, 0, 2))
        assert await sink_harness.read(delivery.clip) == (expected[:2], [])
        await sink.write(step(delivery, 2, 3, last=True))

        assert await sink_harness.read(delivery.clip) == (expected, [])
        await sink.close()

    async def test_hostile_text_is_one_caption(self, sink_harness: SinkHarness) -> None:
        sink, delivery = await sink_harness.open(), delivery_of("a.mp4")
        text = 'a\n\n00:00:00.000 --> 00:00:09.000\n<script> & "quotes" \u2028 \u65e5\u672c {"json": 1}'
        await sink.write(Progress(delivery, [caption(delivery, 0, text=text)], 1, "plan-1"))
        await sink.write(step(delivery, 1, 2, last=True))

        captions, _ = await sink_harness.read(delivery.clip)

        assert [caption.window.index for caption in captions] == [0, 1]
        assert captions[0].text == text.replace("\u2028", "\n")
        await sink.close()

    async def test_a_rejection_follows_the_captions(self, sink_harness: SinkHarness) -> None:
        sink, delivery = await sink_harness.open(), delivery_of("a.mp4")
        await sink.write(step(delivery, 0, 2))
        fault = rejected(delivery, next_window=2)
        await sink.write(fault)

        captions, rejections = await sink_harness.read(delivery.clip)

        assert [caption.window.index for caption in captions] == [0, 1]
        assert rejections == [fault.rejection]
        await sink.close()

    async def test_writing_again_gives_the_same_captions(self, sink_harness: SinkHarness) -> None:
        delivery = delivery_of("a.mp4")
        expected = [caption(delivery, index) for index in range(3)]
        sink = await sink_harness.open()
        await sink.write(step(delivery, 0, 2))
        await sink.close()

        sink = await sink_harness.open()
        await sink.write(step(delivery, 1, 3))
        await sink.write(step(delivery, 1, 3, last=True))

        assert await sink_harness.read(delivery.clip) == (expected, [])
        await sink.close()

    async def test_clips_side_by_side(self, sink_harness: SinkHarness) -> None:
        sink = await sink_harness.open()
        deliveries = [delivery_of(f"clip{number}") for number in range(8)]

        async def write(delivery: Delivery) -> None:
            for index in range(4):
                await sink.write(step(delivery, index, index + 1, last=index == 3))

        await asyncio.gather(*map(write, deliveries))

        for delivery in deliveries:
            assert await sink_harness.read(delivery.clip) == ([caption(delivery, i) for i in range(4)], [])
        await sink.close()
