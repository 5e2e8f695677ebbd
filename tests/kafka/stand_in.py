"""A pipeline reduced to its order of effects: each delivery is captioned window by window and published."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from connectors.at_least_once import AtLeastOnceRoute
from connectors.contract import Caption, CaptionStatus, Delivery, Progress, Sink, WindowSpan
from connectors.errors import ConfigurationError, Poison, Reason
from connectors.kafka.client.consumer import TopicPartition, open_reader
from connectors.kafka.client.producer import KafkaProducer
from connectors.kafka.replay_key import ReplayKey
from connectors.kafka.settings import KafkaConnectionSettings, KafkaSinkSettings, KafkaSourceSettings
from connectors.kafka.sink import KafkaSink
from connectors.kafka.source import KafkaSource, SourceBounds
from connectors.kafka.transactional_route import TransactionalRoute
from connectors.media.protocols import Media

PLAN = "0123456789abcdef"
NS = 10**9


class AnyRoute(Protocol):
    """What the stand-in needs of a route."""

    def deliveries(self) -> AsyncIterator[Delivery]: ...
    async def publish(self, progress: Progress) -> None: ...
    async def quarantine(self, delivery: Delivery) -> None: ...
    async def drain(self) -> None: ...
    async def close(self) -> None: ...


class AtLeastOnce(AtLeastOnceRoute):
    """A route that closes its sink too."""

    source: KafkaSource

    def __init__(self, source: KafkaSource, sink: Sink) -> None:
        super().__init__(source, sink)
        self.sink = sink

    async def close(self) -> None:
        await super().close()
        await self.sink.close()


def no_references(uri: str, name: str) -> Media:
    raise Poison(Reason.FORBIDDEN_PATH, "no reference is allowed", origin="source")


def make_route(
    bootstrap: str,
    topic: str,
    output: str,
    state_dir: Path,
    *,
    transactional: bool,
    group: str | None = None,
    source: dict[str, Any] | None = None,
    sink: dict[str, Any] | None = None,
    replay_key: ReplayKey | None = None,
    **bounds: Any,
) -> AnyRoute:
    """Return a route from ``topic`` to ``output`` and ``output``.rejected."""
    source_settings = KafkaSourceSettings(
        **{"bootstrap_servers": bootstrap, "topics": topic, "group_id": group or topic} | (source or {})
    )
    sink_settings = KafkaSinkSettings(
        **{"bootstrap_servers": bootstrap, "topic": output, "dead_letter_topic": f"{output}.rejected"} | (sink or {})
    )
    limits = SourceBounds(**bounds)
    if transactional:
        return TransactionalRoute(
            "t", source_settings, sink_settings, limits, no_references, state_dir=state_dir, replay_key=replay_key
        )
    read = KafkaSource("t", source_settings, limits, no_references, replay_key=replay_key)
    return AtLeastOnce(read, KafkaSink(sink_settings, ["t"]))


def caption(delivery: Delivery, index: int, text: str = "") -> Caption:
    """Return a caption whose id depends on the clip and the window alone."""
    span = WindowSpan(index, index * NS, (index + 1) * NS)
    clip = delivery.clip
    said = text or f"window {index} of {clip.clip_id}"
    return Caption(
        f"{clip.clip_id}#{index}", clip.clip_id, clip.source, span, said, CaptionStatus.SUCCESS, "fake", "p", PLAN
    )


def step(delivery: Delivery, first: int, windows: int, *, last: bool) -> Progress:
    """Return the progress of ``windows`` windows from ``first``."""
    captions = [caption(delivery, index) for index in range(first, first + windows)]
    return Progress(delivery, captions, first + windows, PLAN, last=last)


async def caption_clip(route: AnyRoute, delivery: Delivery, windows: int, pause: Callable[[], Awaitable[None]]) -> None:
    """Publish each window of a clip, from where it goes on to its end, or its rejection."""
    first = delivery.position.next_window if delivery.position.plan_hash == PLAN else 0
    try:
        descriptor = delivery.clip.media.open()
    except Poison as fault:
        await route.publish(Progress.rejected(delivery, fault, next_window=first, plan_hash=PLAN))
        return
    os.close(descriptor)
    for index in range(first, windows):
        await pause()
        await route.publish(step(delivery, index, 1, last=index == windows - 1))
    if first >= windows:
        await route.publish(step(delivery, first, 0, last=True))
    delivery.clip.media.close()


async def run_pipeline(route: AnyRoute, windows: int = 3, pause_s: float = 0.0, slots: int = 64) -> None:
    """Caption whatever the route delivers until it ends."""
    free = asyncio.Semaphore(slots)

    async def pause() -> None:
        await asyncio.sleep(pause_s)

    async def one(delivery: Delivery) -> None:
        try:
            await caption_clip(route, delivery, windows, pause)
        finally:
            free.release()

    try:
        async with asyncio.TaskGroup() as clips:
            async for delivery in route.deliveries():
                await free.acquire()
                clips.create_task(one(delivery))
    except* ConfigurationError as wrong:
        raise wrong.exceptions[0] from None


@asynccontextmanager
async def running(route: AnyRoute, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
    """Run the stand-in beside a test, and stop it cleanly."""
    task = asyncio.create_task(run_pipeline(route, **options))
    try:
        yield task
    finally:
        await route.drain()
        await asyncio.wait_for(task, 30)
        await route.close()


def produce(
    bootstrap: str, topic: str, values: Sequence[bytes | None], compression: str | None = None, **more: Any
) -> None:
    """Write clips, the n-th with key ``k<n>``."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, max_request_size=20 * 2**20, compression_type=compression)
    futures = [producer.send(topic, value, key=b"k%d" % n, **more) for n, value in enumerate(values)]
    producer.flush(timeout=30)
    assert all(future.succeeded() for future in futures)
    producer.close()


def produce_one(bootstrap: str, topic: str, name: str) -> None:
    """Write one clip with its name as the key, through one producer for the whole session."""
    if bootstrap not in _PRODUCERS:
        _PRODUCERS[bootstrap] = KafkaProducer(bootstrap_servers=bootstrap)
    _PRODUCERS[bootstrap].send(topic, b"clip " + name.encode(), key=name.encode()).get(timeout=30)


_PRODUCERS: dict[str, KafkaProducer] = {}


def close_producers() -> None:
    """Close the producers of :func:`produce_one`, before their broker goes."""
    while _PRODUCERS:
        _PRODUCERS.popitem()[1].close(10)


def read_all(bootstrap: str, topic: str, **more: Any) -> list[Any]:
    """Return every committed record of a topic."""
    reader = open_reader(KafkaConnectionSettings(bootstrap_servers=bootstrap), **more)
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(reader.partitions_for_topic(topic))]
        ends = reader.end_offsets(partitions)
        reader.assign(partitions)
        records: list[Any] = []
        while any(reader.position(partition) < ends[partition] for partition in partitions):
            records += [record for batch in reader.poll(timeout_ms=200).values() for record in batch]
        return records
    finally:
        reader.close()


def place_of(clip_id: str) -> str:
    """Return a clip's id without what tells its topic from an earlier one of the same name."""
    return clip_id.split("@")[0]


def windows_of(records: Sequence[Any]) -> dict[str, list[int]]:
    """Return the window indices of each clip by its place, in the order of the topic."""
    found: dict[str, list[int]] = {}
    for record in records:
        message = json.loads(record.value)
        found.setdefault(place_of(message["clip_id"]), []).append(message["window"]["index"])
    return found


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for a condition, looked at in a thread so that the pipeline under test goes on meanwhile."""
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)  # what is waited for happens in a broker and in other threads


class Watch:
    """Reads a topic as it grows, beside the test: one client for all the looks that a test takes."""

    open_watches: ClassVar[dict[tuple[str, str], "Watch"]] = {}

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.records: list[Any] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(bootstrap, topic), daemon=True)
        self._thread.start()

    def _read(self, bootstrap: str, topic: str) -> None:
        reader = open_reader(KafkaConnectionSettings(bootstrap_servers=bootstrap))
        reader.assign([TopicPartition(topic, number) for number in sorted(reader.partitions_for_topic(topic))])
        while not self._stop.is_set():
            for records in reader.poll(timeout_ms=200).values():
                self.records += records
        reader.close()

    @classmethod
    def close_all(cls) -> None:
        """End every watch of a test."""
        while cls.open_watches:
            _, watch = cls.open_watches.popitem()
            watch._stop.set()
            watch._thread.join(10)


def seen(bootstrap: str, topic: str) -> list[Any]:
    """Return the committed records of a topic that came so far."""
    if (bootstrap, topic) not in Watch.open_watches:
        Watch.open_watches[bootstrap, topic] = Watch(bootstrap, topic)
    return Watch.open_watches[bootstrap, topic].records
