"""A broker that is away is waited for; what only a person can mend ends the source with the name of it (B1, P3)."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.contract import Progress
from connectors.errors import ConfigurationError, Poison
from connectors.kafka.record import ERRORS_PREFIX, ProducerRecord
from connectors.kafka.settings import KafkaSinkSettings
from connectors.kafka.sink import KafkaSink
from connectors.kafka.transactional_route import TransactionalRoute
from testing.kafka.broker import Broker
from testing.kafka.secure_broker import USERS, SecureBroker
from tests.kafka.deliveries import SLOW_TRANSACTIONAL
from tests.kafka.stand_in import PLAN, caption, make_route, produce, run_pipeline, running, until, windows_of
from tests.kafka.topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
MakeTopic = Callable[..., str]
MakeTopics = Callable[..., Topics]


@pytest.fixture
def own_topics(own_broker: Broker, tmp_path: Path) -> Topics:
    """The topics of a broker that the test may kill, which has been started."""
    own_broker.start()
    return Topics(own_broker.bootstrap, tmp_path).make(2, captions=2)


@SLOW_TRANSACTIONAL
@pytest.mark.parametrize("how", ["kill", pytest.param("stop", marks=pytest.mark.thorough)])
async def test_a_broker_that_restarts_under_load_costs_no_window(
    own_broker: Broker, own_topics: Topics, transactional: bool, how: str
) -> None:
    own_topics.produce([b"clip %d" % n for n in range(200)])
    route = own_topics.route(transactional=transactional, max_clips=16)

    async with running(route, windows=6, pause_s=0.05):
        await until(lambda: len(own_topics.seen()) > 100)
        await asyncio.to_thread(own_broker.kill if how == "kill" else own_broker.stop)
        await until(lambda: getattr(route, "source").waiting_for.startswith("the broker: "))  # noqa: B009
        await asyncio.to_thread(own_broker.start)
        back_s = time.monotonic()
        before = await asyncio.to_thread(lambda: len(own_topics.seen()))
        await until(lambda: len(own_topics.seen()) > before, 60)
        recovery_s = time.monotonic() - back_s
        await until(lambda: sum(len(set(found)) for found in windows_of(own_topics.seen()).values()) == 1200, 120)

    found = own_topics.windows()
    repeated = sum(map(len, found.values())) - 1200
    print(f"broker {how}: 1200 windows, 0 lost, {repeated} repeated, recovery {recovery_s:.1f} s")
    assert len(found) == 200
    assert recovery_s <= 30
    assert repeated <= (0 if transactional else 16 * 6)


async def test_a_broker_that_is_down_at_start_is_waited_for(own_broker: Broker, own_topics: Topics) -> None:
    own_topics.produce([b"clip"])
    own_broker.stop()
    route = own_topics.route(transactional=True)

    async with running(route, windows=2):
        await until(lambda: "nothing listens" in getattr(route, "source").waiting_for, 40)  # noqa: B009
        await asyncio.to_thread(own_broker.start)
        await until(lambda: len(own_topics.seen()) == 2, 60)
        assert getattr(route, "source").waiting_for == ""  # noqa: B009


@SLOW_TRANSACTIONAL
async def test_closing_while_the_broker_is_away_does_not_hang(
    own_broker: Broker, own_topics: Topics, transactional: bool
) -> None:
    own_topics.produce([b"clip %d" % n for n in range(50)])
    route = own_topics.route(transactional=transactional, max_clips=8)
    task = asyncio.create_task(run_pipeline(route, windows=6, pause_s=0.05))
    await until(lambda: len(own_topics.seen()) > 20)
    await asyncio.to_thread(own_broker.kill)
    await asyncio.sleep(1)

    begun_s = time.monotonic()
    await route.drain()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await route.close()

    took_s = time.monotonic() - begun_s
    print(f"closed {took_s:.1f} s after the broker was killed")
    assert took_s <= 30


async def test_a_missing_topic_is_named(bootstrap: str, make_topic: MakeTopic, name: str, tmp_path: Path) -> None:
    route = make_route(bootstrap, f"{name}.no-such", make_topic("captions"), tmp_path, transactional=False)

    with pytest.raises(ConfigurationError, match=f"there is no topic '{name}.no-such'") as refused:
        await run_pipeline(route)

    assert refused.value.path == "sources.t.topics"
    await route.close()


async def test_a_missing_output_topic_is_named(
    bootstrap: str, make_topic: MakeTopic, name: str, tmp_path: Path, transactional: bool
) -> None:
    topic = make_topic("clips")
    produce(bootstrap, topic, [b"clip"])
    route = make_route(bootstrap, topic, f"{name}.nowhere", tmp_path, transactional=transactional)

    with pytest.raises((ConfigurationError, ExceptionGroup)) as refused:
        await run_pipeline(route)

    errors = refused.value.exceptions if isinstance(refused.value, ExceptionGroup) else [refused.value]
    assert f"there is no topic '{name}.nowhere'" in str(errors[0])
    await route.close()


async def test_a_caption_that_the_topic_refuses_is_poison_and_its_neighbours_are_written(
    make_topics: MakeTopics, transactional: bool
) -> None:
    topics = make_topics(captions_config={"max.message.bytes": "2000"})
    topics.produce([b"clip %d" % n for n in range(5)])
    route = topics.route(transactional=transactional, sink={"compression": None})
    deliveries = route.deliveries()
    taken = [await anext(deliveries) for _ in range(5)]

    def progress(number: int) -> Progress:
        text = "long " * 2000 if number == 2 else ""
        return Progress(taken[number], [caption(taken[number], 0, text)], 1, PLAN, last=True)

    results = await asyncio.gather(*(route.publish(progress(n)) for n in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), type(None), Poison, type(None), type(None)]
    fault = results[2]
    assert isinstance(fault, Poison)
    assert fault.reason == "caption_too_large"
    await route.publish(Progress.rejected(taken[2], fault, next_window=0, plan_hash=PLAN))
    await route.close()
    await deliveries.aclose()

    assert len(topics.read()) == 4
    assert [record.value for record in topics.letters()] == [b"clip 2"]


async def test_a_dead_letter_larger_than_its_topic_takes_goes_without_the_clip(
    make_topics: MakeTopics, transactional: bool
) -> None:
    topics = make_topics(clips_config={"max.message.bytes": "9000000"})
    topics.produce([bytes(8 * 2**20)])
    route = topics.route(transactional=transactional, sink={"compression": None})
    deliveries = route.deliveries()
    delivery = await anext(deliveries)

    fault = Poison("not_a_video", "zeros")
    await route.publish(Progress.rejected(delivery, fault, next_window=3, plan_hash=PLAN))
    await route.close()
    await deliveries.aclose()

    (letter,) = topics.letters()
    headers = {key.removeprefix(ERRORS_PREFIX): value.decode() for key, value in letter.headers}
    assert (letter.key, letter.value) == (b"k0", None)
    assert (headers["topic"], headers["offset"], headers["first_window"]) == (topics.clips, "0", "3")


async def test_no_rights_on_topic_and_group_are_named(secure: SecureBroker, tmp_path: Path) -> None:
    bootstrap = secure.broker.bootstrap
    topics = Topics(bootstrap, tmp_path, "app-clips", "app-out").make()
    Topics(bootstrap, tmp_path, "forbidden", "forbidden-out").make()
    secure.allow("READ WRITE", "TOPIC", "app-", prefixed=True)
    secure.allow("READ", "GROUP", "app-", prefixed=True)
    secure.allow("ALL", "TRANSACTIONAL_ID", "captiond.app-", prefixed=True)
    topics.produce([b"clip"])
    login = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_username": "captiond",
        "password_file": secure.password_file(USERS["captiond"]),
        "ssl_cafile": secure.ca_file,
    }
    for topic, group, words in (
        ("forbidden", "app-g", "no right to read the topic 'forbidden'"),
        ("app-clips", "other", "no rights on the consumer group other"),
    ):
        route = make_route(
            secure.bootstrap, topic, "app-out", tmp_path, transactional=False, group=group, source=login, sink=login
        )
        with pytest.raises(ConfigurationError, match=words):
            await run_pipeline(route)
        await route.close()

    route = make_route(
        secure.bootstrap, "app-clips", "app-out", tmp_path, transactional=True, group="app-g", source=login, sink=login
    )
    async with running(route, windows=2):
        await until(lambda: len(topics.seen()) == 2, 60)


async def test_a_wrong_password_ends_the_source_with_its_key(secure: SecureBroker, tmp_path: Path) -> None:
    settings = KafkaSinkSettings(
        bootstrap_servers=secure.bootstrap,
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username="captiond",
        password_file=secure.password_file("wrong"),
        ssl_cafile=secure.ca_file,
    )
    sink = KafkaSink(settings, ["t"])
    with pytest.raises(ConfigurationError, match="password") as refused:
        await sink.write_records([ProducerRecord("x", b"k", b"v", ())])

    assert refused.value.path == "sink.password_file"
    await sink.close()


def test_two_daemons_of_a_host_have_transactional_ids_of_their_own(bootstrap: str, tmp_path: Path) -> None:
    routes = [make_route(bootstrap, "t", "o", tmp_path, transactional=True, group="g") for _ in range(2)]
    ids = [route._slot.transactional_id for route in routes if isinstance(route, TransactionalRoute)]

    assert [taken.split(".")[-1] for taken in ids] == ["0", "1"]
    for route in routes:
        if isinstance(route, TransactionalRoute):
            route._slot.release()
