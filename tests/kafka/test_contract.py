"""The contract suites that every source, sink and route keeps, over a real broker."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.at_least_once import AtLeastOnceRoute
from connectors.contract import Caption, Clip, Delivery, Progress, Rejection, Route, Sink, Source
from connectors.kafka.record import ERRORS_PREFIX
from connectors.kafka.settings import KafkaSinkSettings, KafkaSourceSettings
from connectors.kafka.sink import KafkaSink
from connectors.kafka.source import KafkaSource, SourceBounds
from connectors.kafka.transactional_route import TransactionalRoute
from connectors.messages.codec import message_from_json
from tests.contract.route_contract import RouteContract
from tests.contract.sink_contract import SinkContract
from tests.contract.source_contract import SourceContract
from tests.kafka.stand_in import no_references, produce_one, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]
MakeTopic = Callable[..., str]


class _Named(KafkaSource):
    """Calls each clip by its record's key, as the suites do."""

    async def deliveries(self) -> AsyncIterator[Delivery]:
        async for delivery in super().deliveries():
            delivery.clip.media.name = delivery.handle.key.decode()  # type: ignore[misc]
            yield delivery


class KafkaEdge:
    """A topic of two partitions and a group of its own."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.bootstrap, self.topic = bootstrap, topic

    @property
    def settings(self) -> KafkaSourceSettings:
        return KafkaSourceSettings(bootstrap_servers=self.bootstrap, topics=self.topic, group_id=self.topic)

    async def put(self, name: str) -> None:
        produce_one(self.bootstrap, self.topic, name)

    async def open(self, *, once: bool = True) -> Source:
        return _Named("in", self.settings, SourceBounds(max_clips=100, once=once), no_references)

    async def kill(self, source: Source) -> None:
        await lose(source)


async def lose(source: Any) -> None:
    """End a source as SIGKILL does, but for the group, which need not wait for the session to be over."""
    if source._thread is not None:
        source._thread.queue.commit = lambda *_: None
    await source.close()


class KafkaSinkEdge:
    """An output topic and its dead letters."""

    def __init__(self, bootstrap: str, output: str) -> None:
        self.bootstrap, self.output = bootstrap, output

    @property
    def settings(self) -> KafkaSinkSettings:
        rejected = f"{self.output}.rejected"
        return KafkaSinkSettings(bootstrap_servers=self.bootstrap, topic=self.output, dead_letter_topic=rejected)

    async def open(self) -> Sink:
        return KafkaSink(self.settings, ["in"])

    async def read(self, clip: Clip) -> tuple[list[Caption], list[Rejection]]:
        captions: dict[str, Caption] = {}
        for record in read_all(self.bootstrap, self.output):
            caption = message_from_json(record.value)
            if isinstance(caption, Caption) and caption.clip_id == clip.clip_id:
                captions.setdefault(caption.caption_id, caption)
        rejections = {}
        for record in read_all(self.bootstrap, f"{self.output}.rejected"):
            errors = {name.removeprefix(ERRORS_PREFIX): value.decode() for name, value in record.headers}
            if errors["clip_id"] == clip.clip_id:
                given = [
                    errors[key] for key in ("connector.name", "exception.class.name", "exception.message", "stage")
                ]
                rejections[clip.clip_id] = Rejection(clip.clip_id, *given, int(errors["attempts"]))
        return list(captions.values()), list(rejections.values())


class KafkaRouteEdge:
    """Kafka to Kafka, in transactions or not."""

    def __init__(self, source: KafkaEdge, sink: KafkaSinkEdge, state_dir: Path, *, transactional: bool) -> None:
        self.source, self.sink, self._state_dir, self._transactional = source, sink, state_dir, transactional
        self._clips: dict[str, Clip] = {}

    async def put(self, name: str) -> None:
        await self.source.put(name)

    async def open(self, *, once: bool = True, wrap: Callable[[Any], Any] | None = None) -> Route:
        if not self._transactional:
            sink = await self.sink.open()
            return self._noted(AtLeastOnceRoute(await self.source.open(once=once), wrap(sink) if wrap else sink))
        if wrap is not None:
            pytest.skip("a transaction has no sink of its own")
        bounds = SourceBounds(max_clips=100, once=once)
        route = TransactionalRoute(
            "in", self.source.settings, self.sink.settings, bounds, no_references, state_dir=self._state_dir
        )
        route.source.__class__ = _Named
        return self._noted(route)

    def _noted(self, route: Any) -> Route:
        publish = route.publish

        async def noted(progress: Progress) -> None:
            self._clips[progress.delivery.clip.media.name] = progress.delivery.clip
            await publish(progress)

        route.publish = noted
        return route  # type: ignore[no-any-return]

    async def kill(self, route: Any) -> None:
        await lose(route.source)
        if self._transactional:
            route._slot.release()

    async def read(self, name: str) -> tuple[list[Caption], list[Rejection]]:
        return await self.sink.read(self._clips[name])


@pytest.fixture
def harness(bootstrap: str, make_topic: MakeTopic) -> KafkaEdge:
    return KafkaEdge(bootstrap, make_topic("clips", partitions=2))


@pytest.fixture
def sink_harness(bootstrap: str, make_topic: MakeTopic) -> KafkaSinkEdge:
    make_topic("captions.rejected")
    # The suite's sinks serve a source called inbox; the topics are the same for every source.
    return KafkaSinkEdge(bootstrap, make_topic("captions", partitions=2))


@pytest.fixture(params=[False, True], ids=["at_least_once", "transactional"])
def route_harness(
    request: pytest.FixtureRequest, harness: KafkaEdge, sink_harness: KafkaSinkEdge, tmp_path: Path
) -> KafkaRouteEdge:
    return KafkaRouteEdge(harness, sink_harness, tmp_path, transactional=request.param)


class TestKafkaSource(SourceContract):
    pass


class TestKafkaSink(SinkContract):
    pass


class TestKafkaRoutes(RouteContract):
    pass
