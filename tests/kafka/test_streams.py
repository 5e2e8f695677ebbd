"""A stream's captions in a topic: in the order of their windows, and after a crash at most again under the same id."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.errors import Transient
from connectors.kafka.settings import KafkaSinkSettings
from connectors.kafka.sink import KafkaSink
from tests.kafka.stand_in import read_all
from tests.unit.connectors.stream.windows import FIRST, Stream, described, take

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


async def test_windows_stand_in_one_partition_in_their_order(
    bootstrap: str, make_topic: Callable[..., str], tmp_path: Path
) -> None:
    topic, rejected = make_topic("captions", partitions=4), make_topic("captions.rejected")
    settings = KafkaSinkSettings(bootstrap_servers=bootstrap, topic=topic, dead_letter_topic=rejected)  # type: ignore[arg-type]
    stream = Stream(tmp_path)
    stream.record(*range(FIRST, FIRST + 3))
    stream.know(4)
    sink = KafkaSink(settings, ["cam"])
    route = stream.route(sink)
    found = await take(route.deliveries(), 2)
    await route.publish(described(found[0]))

    async def crash(_: object) -> None:
        raise Transient("killed here")

    route.source.settle = crash  # type: ignore[method-assign, assignment]
    with pytest.raises(Transient, match="killed here"):
        await route.publish(described(found[1]))
    route = stream.route(sink)
    for one in await take(route.deliveries(), 3):
        await route.publish(described(one))
    await sink.close()

    records = read_all(bootstrap, topic)
    assert {(record.partition, record.key) for record in records} == {(records[0].partition, b"cam")}
    messages = [json.loads(record.value) for record in records]
    assert [one["stream"]["index"] - FIRST for one in messages] == [0, 1, 1, 2, 3]
    assert [one["status"] for one in messages] == ["success"] * 4 + ["gap"]
    ids = [dict(record.headers)["ce_id"] for record in records]
    assert len(set(ids)) == 4
    assert dict(records[0].headers)["captiond_wall_start"] == b"2027-01-15T08:00:00.000Z"
