"""M1, M2 and P3: messages that no one should send, and outputs that can't be written."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from connectors.errors import ExitCode
from connectors.kafka.client.admin import KafkaAdminClient, NewTopic
from testing.kafka.secure_broker import start_secure_broker
from tests.chaos.kafka.interceptors import read_journal
from tests.chaos.kafka.load import FINISH_S, KafkaLoad, Message, both_deliveries, clip_bytes, side_by_side, wait_until
from tests.chaos.kafka.run_daemon import Options
from tests.chaos.kafka.stop_rows import STOP_S, ends_cleanly
from tests.chaos.table import Result
from tests.corpus.messages import BAD_MESSAGES

CLIPS_A_POISON = 99
LONG_ID = "/cam#" + "x" * 251  # as long as an id may be that is an event's source and id
TAKES_BYTES = "1600"  # a caption of an ordinary clip has some 1,200


def all_ended(load: KafkaLoad, pid: int) -> bool:
    """Tell whether a daemon has ended every clip of the load, with captions or a rejection."""
    events = read_journal(load.journal)
    ended = {
        (event["places"][0], event["offset"])
        for event in events
        if event["event"] == "published" and event["last"] and event["pid"] == pid
    }
    return len(ended) == len(load.expected)


def one_life(load: KafkaLoad, faults: int) -> Result:
    """Let one daemon end every clip of the load, without a restart."""
    wrong = []
    with load.running(Options(overrides=("engine.delay_ms=0",))) as process:
        wait_until(lambda: process.poll() is not None or all_ended(load, process.pid), FINISH_S, "the end of the clips")
        process.terminate()
        wrong += ends_cleanly(load, process, STOP_S)
    result = load.check(faults)
    result.wrong += wrong
    return result


def malformed(transactional: bool, faults: int, folder: Path) -> Result:
    """M1: one rejection each, with its reason; a clip between them is captioned."""
    load = KafkaLoad(folder, transactional)
    bad = [Message(message.value, 0, message.reason, message.headers) for message in BAD_MESSAGES[:faults]]
    load.send([*bad, Message(clip_bytes())])
    return one_life(load, faults)


def poisoned(transactional: bool, faults: int, folder: Path) -> Result:
    """M2: one poison in a hundred, at a place of its own in each hundred."""
    load, draw, messages = KafkaLoad(folder, transactional), random.Random(faults), list[Message]()
    for _ in range(faults):
        hundred = [Message(clip_bytes())] * CLIPS_A_POISON
        hundred.insert(draw.randint(0, CLIPS_A_POISON), Message(b"no clip", 0, "not_a_video"))
        messages += hundred
    load.send(messages)
    return one_life(load, faults)


def too_large(folder: Path, transactional: bool) -> Result:
    """P3: captions that the topic refuses end their clip with a rejection; its neighbours are captioned."""
    load = KafkaLoad(folder, transactional, output_settings={"max.message.bytes": TAKES_BYTES})
    source, _, event_id = LONG_ID.partition("#")
    given = {"ce_specversion": b"1.0", "ce_source": source.encode(), "ce_id": event_id.encode()}
    large = Message(clip_bytes(), 0, "caption_too_large", given, LONG_ID)
    load.send([*[Message(clip_bytes())] * 5, large, *[Message(clip_bytes())] * 5])
    return one_life(load, 1)


def no_such_topic(folder: Path, transactional: bool) -> Result:
    """P3: an output topic that is not there ends the daemon with exit 78, and the key is named."""
    load = KafkaLoad(folder, transactional)
    load.fill(8)
    return _refused(load, ("sink.topic=nowhere",), "there is no topic 'nowhere'")


def no_rights(folder: Path, transactional: bool) -> Result:
    """P3: a user without rights ends the daemon with exit 78, and what is missing is named."""
    load = KafkaLoad(folder, transactional)
    load.fill(8)
    secure = start_secure_broker(folder / "secure")
    try:
        admin = KafkaAdminClient(bootstrap_servers=secure.broker.bootstrap, request_timeout_ms=30_000)
        admin.create_topics([NewTopic(name, 1, 1) for name in (load.topic, load.output, load.rejected)])
        admin.close()
        login = secure.login("nobody").items()
        keys = tuple(f"{section}.{key}={value}" for section in ("sources.load", "sink") for key, value in login)
        return _refused(load, keys, "the user has no right")
    finally:
        secure.broker.kill()


def _refused(load: KafkaLoad, overrides: tuple[str, ...], words: str) -> Result:
    """Let a daemon refuse its configuration, and a right one finish the load."""
    with load.running(Options(overrides=overrides)) as process:
        wrong = ends_cleanly(load, process, STOP_S, expect=ExitCode.CONFIGURATION)
    if words not in (load.folder / "daemon.log").read_text():
        wrong.append(f"{load.topic}: the log does not say {words!r}")
    wrong += load.finish()
    result = load.check(1)
    result.wrong += wrong
    return result


def p3(transactional: bool, faults: int, folder: Path) -> Result:
    """The three in turn."""
    cases: tuple[Callable[[Path, bool], Result], ...] = (too_large, no_such_topic, no_rights)
    return side_by_side(
        [partial(cases[number % 3], folder / str(number), transactional) for number in range(faults)], at_once=3
    )


ROWS = (
    *both_deliveries("P3", "caption too large, no topic, no rights", 3, 3, p3),
    *both_deliveries("M1", "malformed messages", 40, 0, malformed),
    *both_deliveries("M2", "one poison in a hundred clips", 10, 1, poisoned),
)
