"""What stands still says so in a sentence and a metric, holds nothing else up, and ends when the daemon is told to."""

import subprocess
from pathlib import Path

import pytest

from connectors.kafka.client.admin import KafkaAdminClient, NewTopic
from testing.kafka.broker import Broker
from testing.kafka.secure_broker import SecureBroker
from testing.load import WINDOWS_EACH, write_load_clip
from testing.repository import ROOT
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.deliveries import SLOW_DELIVERY
from tests.kafka.stand_in import produce, seen

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
HTTP = "http: {listen: '127.0.0.1:0'}\n"
WAITING = 'captiond_waiting{edge="clips"}'


def damage(log: Path, at: int) -> None:
    """Turn a byte of a partition's records over, as a disk does: ``at`` counts from the end."""
    with log.open("r+b") as file:
        file.seek(-at, 2)
        (byte,) = file.read(1)
        file.seek(-at, 2)
        file.write(bytes([byte ^ 0xFF]))


@SLOW_DELIVERY
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

    for start in range(2):
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
    daemon.wait_until(lambda: len(seen(at, "captions")) == WINDOWS_EACH * 6)


@SLOW_DELIVERY
def test_a_broker_that_goes_with_clips_in_flight_keeps_the_daemon_from_ending_no_longer_than_a_stop_takes(
    own_broker: Broker, tmp_path: Path, delivery: str
) -> None:
    at = own_broker.start().bootstrap
    admin = KafkaAdminClient(bootstrap_servers=at, request_timeout_ms=30_000)
    topics = ["clips", "captions", "captions.rejected"]
    admin.create_topics([NewTopic(topic, 1, 1) for topic in topics])
    admin.wait_for_topics(topics)
    admin.close()
    write_load_clip(tmp_path / "clip.mp4")
    produce(at, "clips", [(tmp_path / "clip.mp4").read_bytes()] * 60)
    more = HTTP + "timeouts: {drain_s: 5.0}\n"
    daemon = Daemon(tmp_path, {"clips": kafka_source(at, "clips")}, kafka_sink(at, "captions"), more, delivery)
    with daemon.running():
        daemon.wait_until(lambda: len(seen(at, "captions")) > 0, 120)
        own_broker.kill()
        daemon.wait_until(lambda: "Source clips waits for the broker" in daemon.log.read_text(), 120)
        assert daemon.metric(WAITING) == 1


@pytest.mark.parametrize("lost", ["topic", "group", "captions"])
def test_rights_that_are_lost_midway_end_the_daemon_with_their_name(
    secure: SecureBroker, tmp_path: Path, name: str, lost: str
) -> None:
    secure.make_topics(f"{name}.clips", f"{name}.captions", f"{name}.captions.rejected")
    rights = {
        "topic": ("READ DESCRIBE", "TOPIC", f"{name}.clips"),
        "group": ("READ", "GROUP", f"{name}.clips"),
        "captions": ("WRITE", "TOPIC", f"{name}.captions"),
    }
    for right in rights.values():
        secure.allow(*right)
    secure.allow("WRITE", "TOPIC", f"{name}.captions.rejected")
    login = "".join(f", {key}: '{value}'" for key, value in secure.login("captiond").items() if key[0] != "b")
    source = kafka_source(secure.bootstrap, f"{name}.clips", login)
    daemon = Daemon(tmp_path, {"clips": source}, kafka_sink(secure.bootstrap, f"{name}.captions", login))
    write_load_clip(tmp_path / "clip.mp4")
    video = (tmp_path / "clip.mp4").read_bytes()
    produce(secure.broker.bootstrap, f"{name}.clips", [video])
    with daemon.log.open("wb") as out:
        process = subprocess.Popen(daemon.command("run"), cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    try:
        daemon.wait_until(lambda: len(seen(secure.broker.bootstrap, f"{name}.captions")) == WINDOWS_EACH, 120)
        secure.forbid(*rights[lost])
        produce(secure.broker.bootstrap, f"{name}.clips", [video])
        assert process.wait(120) == 78, daemon.log.read_text()
    finally:
        process.kill()
        process.wait()
    what = {"topic": "topic {}.clips", "group": "consumer group {}.clips", "captions": "topic {}.captions"}[lost]
    assert f"the user has no rights on the {what.format(name)}" in daemon.log.read_text()
