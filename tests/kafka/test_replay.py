"""A replayed dead letter is the same clip again: its id, its place, its original record."""

from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.contract import Progress
from connectors.errors import Poison
from connectors.kafka.record import REPLAY_PREFIX
from connectors.kafka.replay import replay
from connectors.kafka.replay_key import ReplayKey
from connectors.kafka.settings import KafkaSinkSettings
from tests.kafka.stand_in import PLAN, make_route, produce, read_all, run_pipeline, step, windows_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


async def test_a_dead_letter_goes_on_where_it_failed(
    bootstrap: str, make_topic: Callable[..., str], tmp_path: Path
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    make_topic("captions.rejected")
    produce(bootstrap, topic, [b"clip"], headers=[("color", b"blue")])
    first = make_route(bootstrap, topic, output, tmp_path, transactional=True)
    deliveries = first.deliveries()
    delivery = await anext(deliveries)
    await first.publish(step(delivery, 0, 2, last=False))
    await first.publish(Progress.rejected(delivery, Poison("corrupt", "x"), next_window=2, plan_hash=PLAN))
    await first.close()
    await deliveries.aclose()
    settings = KafkaSinkSettings(bootstrap_servers=bootstrap, topic=output, dead_letter_topic=f"{output}.rejected")

    key = ReplayKey.load(tmp_path)
    assert replay(settings, "t", key).sent == 1
    assert replay(settings, "t", key).sent == 0

    again = read_all(bootstrap, topic)[-1]
    assert (again.key, again.value, dict(again.headers)["color"]) == (b"k0", b"clip", b"blue")
    assert dict(again.headers)[f"{REPLAY_PREFIX}count"] == b"1"
    second = make_route(bootstrap, topic, output, tmp_path, transactional=True, once=True, replay_key=key)
    await run_pipeline(second, windows=4)
    await second.close()
    assert windows_of(read_all(bootstrap, output)) == {f"{topic}/0/0": [0, 1, 2, 3]}
