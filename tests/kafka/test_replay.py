"""A replayed dead letter is the same clip again: its id, its place, its original record."""

from collections.abc import Callable

import pytest

from connectors.contract import Progress
from connectors.errors import Poison
from connectors.kafka.client.consumer import OffsetAndMetadata, TopicPartition, open_reader
from connectors.kafka.record import REPLAY_PREFIX
from connectors.kafka.replay import replay
from connectors.kafka.replay_key import ReplayKey
from tests.kafka.stand_in import PLAN, read_all, run_pipeline, step
from tests.kafka.topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


async def test_a_dead_letter_goes_on_where_it_failed(
    make_topics: Callable[..., Topics],
) -> None:
    topics = make_topics()
    topics.produce([b"clip"], headers=[("color", b"blue")])
    first = topics.route(transactional=True)
    deliveries = first.deliveries()
    delivery = await anext(deliveries)
    await first.publish(step(delivery, 0, 2, last=False))
    await first.publish(Progress.rejected(delivery, Poison("corrupt", "x"), next_window=2, plan_hash=PLAN))
    await first.close()
    await deliveries.aclose()
    settings = topics.sink_settings()

    key = ReplayKey.load(topics.state_dir)
    assert replay(settings, "t", key).sent == 1
    assert replay(settings, "t", key).sent == 0

    again = read_all(topics.bootstrap, topics.clips)[-1]
    assert (again.key, again.value, dict(again.headers)["color"]) == (b"k0", b"clip", b"blue")
    assert dict(again.headers)[f"{REPLAY_PREFIX}count"] == b"1"
    second = topics.route(transactional=True, once=True, replay_key=key)
    await run_pipeline(second, windows=4)
    await second.close()
    assert topics.windows() == {f"{topics.clips}/0/0": [0, 1, 2, 3]}


@pytest.mark.parametrize("stored", ["beyond the end", "of an earlier topic"])
async def test_letters_of_a_topic_that_was_made_again_are_replayed(
    make_topics: Callable[..., Topics], caplog: pytest.LogCaptureFixture, stored: str
) -> None:
    topics = make_topics()
    topics.produce([b"clip"] * 3)
    route = topics.route(transactional=False, once=True)
    deliveries = route.deliveries()
    for _ in range(3):
        await route.publish(
            Progress.rejected(await anext(deliveries), Poison("corrupt", "x"), next_window=0, plan_hash=PLAN)
        )
    await route.close()
    await deliveries.aclose()
    settings, key = topics.sink_settings(), ReplayKey.load(topics.state_dir)
    place = TopicPartition(topics.rejected, 0)
    left = (9, "") if stored == "beyond the end" else (2, "RSMs-CEFR3ybkr3cemGhgA")
    reader = open_reader(settings, group_id=f"captiond-replay-{topics.rejected}")
    reader.assign([place])
    reader.commit({place: OffsetAndMetadata(*left, -1)}, timeout_ms=20_000)
    reader.close(autocommit=False)

    assert [replay(settings, "t", key).sent for _ in range(3)] == [3, 0, 0]
    assert caplog.text.count("its letters are replayed from the start") == 1
