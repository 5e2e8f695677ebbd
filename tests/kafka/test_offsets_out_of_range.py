"""Committed offsets that the log does not have: said with the numbers, counted, begun again as start_from says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.contract import ClipPosition
from connectors.kafka.client.admin import KafkaAdminClient, NewTopic
from connectors.kafka.client.consumer import OffsetAndMetadata, TopicPartition, open_reader
from connectors.kafka.offset_ledger import PartitionPosition, encode_position
from connectors.kafka.settings import KafkaConnectionSettings
from testing.kafka.broker import Broker
from testing.load import WINDOWS_EACH, write_load_clip
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.deliveries import SLOW_DELIVERY
from tests.kafka.stand_in import place_of, produce, read_all, seen

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
MakeTopic = Callable[..., str]
SAID = "as start_from says"


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    write_load_clip(tmp_path / "clip.mp4")
    return (tmp_path / "clip.mp4").read_bytes()


def commit(bootstrap: str, topic: str, position: PartitionPosition | int) -> None:
    """Store a position for the group of a topic, as another program does or as captiond does."""
    if isinstance(position, int):
        stored = OffsetAndMetadata(position, "", -1)
    else:
        stored = OffsetAndMetadata(position.offset, encode_position(position), -1)
    reader = open_reader(KafkaConnectionSettings(bootstrap_servers=bootstrap), group_id=topic)
    reader.assign([TopicPartition(topic, 0)])
    reader.commit({TopicPartition(topic, 0): stored}, timeout_ms=20_000)
    reader.close(autocommit=False)


def captioned(bootstrap: str, output: str) -> list[int]:
    """Return the offsets of the clips whose first window was described, in order."""
    messages = [json.loads(record.value) for record in read_all(bootstrap, output)]
    return sorted(int(place_of(each["clip_id"]).split("/")[2]) for each in messages if each["window"]["index"] == 0)


@SLOW_DELIVERY
@pytest.mark.parametrize("has_metadata", [False, True])
def test_a_position_beyond_the_end(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, video: bytes, delivery: str, has_metadata: bool
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    make_topic("captions.rejected")
    produce(bootstrap, topic, [video] * 3)
    commit(bootstrap, topic, PartitionPosition(100, 105, {100: ClipPosition(3, "ab" * 8)}) if has_metadata else 100)
    sources = {"clips": kafka_source(bootstrap, topic)}
    daemon = Daemon(tmp_path, sources, kafka_sink(bootstrap, output), delivery=delivery)

    first, second, third = daemon.once(), daemon.once(), daemon.once()

    for ended in (first, second, third):
        assert ended.returncode == 0, ended.stderr
    said = (
        f"The position of {topic}/0, offset 100, is beyond the end of the log: it has 0 to 3. It goes on at offset 0, "
    )
    assert first.stderr.count(said) == 1
    assert SAID not in second.stderr + third.stderr
    assert captioned(bootstrap, output) == [0, 1, 2]
    assert len(read_all(bootstrap, output)) == 3 * WINDOWS_EACH


def test_a_position_beyond_the_end_where_new_groups_start_at_the_end(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, video: bytes
) -> None:
    """Where it begins is committed at once: what comes before the next start is not passed over."""
    topic, output = make_topic("clips"), make_topic("captions")
    make_topic("captions.rejected")
    produce(bootstrap, topic, [video] * 3)
    commit(bootstrap, topic, 100)
    source = kafka_source(bootstrap, topic, ", start_from: latest")
    daemon = Daemon(tmp_path, {"clips": source}, kafka_sink(bootstrap, output))

    first = daemon.once()
    produce(bootstrap, topic, [video] * 2)
    second = daemon.once()

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "offset 100, is beyond the end of the log: it has 0 to 3. It goes on at offset 3, " in first.stderr
    assert SAID not in second.stderr
    assert captioned(bootstrap, output) == [3, 4]


@pytest.mark.parametrize(("start_from", "found"), [("earliest", [3, 4]), ("latest", [])])
def test_a_position_before_the_start(
    bootstrap: str,
    make_topic: MakeTopic,
    admin: KafkaAdminClient,
    tmp_path: Path,
    video: bytes,
    start_from: str,
    found: list[int],
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    make_topic("captions.rejected")
    produce(bootstrap, topic, [video] * 5)
    admin.delete_records({TopicPartition(topic, 0): 3})
    commit(bootstrap, topic, 1)
    source = kafka_source(bootstrap, topic, f", start_from: {start_from}")
    daemon = Daemon(tmp_path, {"clips": source}, kafka_sink(bootstrap, output))

    ended = daemon.once()

    assert ended.returncode == 0, ended.stderr
    at = 3 if start_from == "earliest" else 5
    said = f"offset 1, is before the start of the log: it has 3 to 5. It goes on at offset {at}, {SAID}."
    assert ended.stderr.count(said) == 1
    assert captioned(bootstrap, output) == found


def test_clips_above_the_end_that_are_called_finished_are_not_believed(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, video: bytes
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    make_topic("captions.rejected")
    produce(bootstrap, topic, [video] * 3)
    commit(bootstrap, topic, PartitionPosition(1, 60, {1: ClipPosition()}))
    daemon = Daemon(tmp_path, {"clips": kafka_source(bootstrap, topic)}, kafka_sink(bootstrap, output))

    ended = daemon.once()
    produce(bootstrap, topic, [video])
    assert daemon.once().returncode == 0

    assert ended.returncode == 0, ended.stderr
    assert f"{topic}/0 ends at offset 3 and was read up to 60: it goes on at its position, offset 1" in ended.stderr
    assert captioned(bootstrap, output) == [1, 2, 3]


def test_a_log_that_loses_its_records_while_the_daemon_runs(own_broker: Broker, tmp_path: Path, video: bytes) -> None:
    """A broker whose disk was restored from a backup."""
    at = own_broker.start().bootstrap
    admin = KafkaAdminClient(bootstrap_servers=at, request_timeout_ms=30_000)
    topics = ["clips", "captions", "captions.rejected"]
    admin.create_topics([NewTopic(topic, 1, 1) for topic in topics])
    admin.wait_for_topics(topics)
    admin.close()
    sources = {"clips": kafka_source(at, "clips")}
    daemon = Daemon(tmp_path, sources, kafka_sink(at, "captions"), more="http: {listen: '127.0.0.1:0'}\n")
    produce(at, "clips", [video] * 4)
    with daemon.running():
        daemon.wait_until(lambda: len(seen(at, "captions")) == 4 * WINDOWS_EACH)
        own_broker.stop()
        for file in (own_broker.data / "log" / "clips-0").iterdir():
            if file.name != "partition.metadata":
                file.unlink()
        own_broker.start()
        produce(at, "clips", [video] * 2)
        daemon.wait_until(lambda: len(seen(at, "captions")) == 6 * WINDOWS_EACH, 120)
        assert daemon.metric('captiond_source_events_total{event="positions_out_of_range",source="clips"}') == 1
    said = daemon.log.read_text()  # the broker's new epoch says where the log parts, or the fetch that nothing is there
    assert "clips/0 ends at offset 0 and was read up to 4" in said or "offset 4, is beyond the end of the log" in said
    assert captioned(at, "captions") == [0, 0, 1, 1, 2, 3]
