"""What stands still says so in a sentence and a metric, holds nothing else up, and ends when the daemon is told to."""

from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.kafka.client.admin import KafkaAdminClient, NewTopic
from testing.kafka.broker import Broker
from testing.load import WINDOWS_EACH, write_load_clip
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.stand_in import produce, seen

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
MakeTopic = Callable[..., str]
HTTP = "http: {listen: '127.0.0.1:0'}\n"
WAITING = 'captiond_waiting{edge="clips"}'


def damage(log: Path, at: int) -> None:
    """Turn a byte of a partition's records over, as a disk does: ``at`` counts from the end."""
    with log.open("r+b") as file:
        file.seek(-at, 2)
        (byte,) = file.read(1)
        file.seek(-at, 2)
        file.write(bytes([byte ^ 0xFF]))


@pytest.mark.parametrize("delivery", ["at_least_once", "transactional"])
def test_a_damaged_batch_holds_up_its_partition_alone(own_broker: Broker, tmp_path: Path, delivery: str) -> None:
    at = own_broker.start().bootstrap
    admin = KafkaAdminClient(bootstrap_servers=at, request_timeout_ms=30_000)
    topics = ["clips", "intact", "captions", "captions.rejected"]
    admin.create_topics([NewTopic(topic, 1, 1) for topic in topics])
    admin.wait_for_topics(topics)
    admin.close()
    write_load_clip(tmp_path / "clip.mp4")
    video = (tmp_path / "clip.mp4").read_bytes()
    for _ in range(2):  # a batch each
        produce(at, "clips", [video])
    own_broker.stop()
    (log,) = (own_broker.data / "log" / "clips-0").glob("*.log")
    damage(log, 100)
    own_broker.start()
    source = kafka_source(at, "clips").replace("topics: [clips]", "topics: [clips, intact]")
    daemon = Daemon(tmp_path, {"clips": source}, kafka_sink(at, "captions"), more=HTTP, delivery=delivery)

    for start in range(3):
        with daemon.running():
            daemon.wait_until(lambda: "clips/0 stands still: offset 1 can't be read" in daemon.log.read_text(), 120)
            assert "CorruptRecordError" in daemon.log.read_text()
            assert daemon.metric(WAITING) == 1
            produce(at, "intact", [video] * 2)
            expected = WINDOWS_EACH * (1 + 2 * (start + 1))
            daemon.wait_until(lambda count=expected: len(seen(at, "captions")) == count, 120)

    own_broker.stop()
    damage(log, 100)  # the disk is mended
    own_broker.start()
    assert daemon.once().returncode == 0
    daemon.wait_until(lambda: len(seen(at, "captions")) == WINDOWS_EACH * 8)
