"""Topics that are deleted and made again under their name: their records are clips of their own, and all captioned."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.kafka.client.admin import KafkaAdminClient, NewTopic
from connectors.kafka.client.consumer import OffsetAndMetadata, TopicPartition, open_reader
from connectors.kafka.settings import KafkaConnectionSettings
from testing.load import WINDOWS_EACH, write_load_clip
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.deliveries import SLOW_DELIVERY
from tests.kafka.stand_in import produce, read_all, seen

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
MakeTopic = Callable[..., str]


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    write_load_clip(tmp_path / "clip.mp4")
    return (tmp_path / "clip.mp4").read_bytes()


@pytest.fixture
def make_again(bootstrap: str, admin: KafkaAdminClient) -> Callable[[str], None]:
    """Return a function that deletes a topic and makes it again."""

    def again(topic: str) -> None:
        admin.delete_topics([topic])
        while True:
            try:
                admin.create_topics([NewTopic(topic, 1, 1)])
                break
            except Exception as error:
                if "TOPIC_ALREADY_EXISTS" not in str(error) and "AlreadyExists" not in type(error).__name__:
                    raise
        admin.wait_for_topics([topic])

    return again


def topic_id(bootstrap: str, topic: str) -> str:
    reader = open_reader(KafkaConnectionSettings(bootstrap_servers=bootstrap))
    try:
        return reader.topic_ids([topic], 20_000)[topic]
    finally:
        reader.close()


def committed(bootstrap: str, topic: str, put: OffsetAndMetadata | None = None) -> Any:
    """Return what the group of a topic has stored, or store something."""
    reader = open_reader(KafkaConnectionSettings(bootstrap_servers=bootstrap), group_id=topic)
    partition = TopicPartition(topic, 0)
    try:
        if put is not None:
            reader.assign([partition])
            reader.commit({partition: put}, timeout_ms=20_000)
        return reader.committed(partition, metadata=True, timeout_ms=20_000)
    finally:
        reader.close(autocommit=False)


def captions_of(clip_ids: list[str], clip_id: str) -> int:
    return clip_ids.count(clip_id)


def test_both_clips_have_their_captions_in_a_folder(
    bootstrap: str, make_topic: MakeTopic, make_again: Callable[[str], None], tmp_path: Path, video: bytes
) -> None:
    topic = make_topic("clips")
    daemon = Daemon(tmp_path, {"clips": kafka_source(bootstrap, topic)}, "{kind: folder, path: captions}")
    ids = []
    for start in range(3):
        if start:
            make_again(topic)
        ids.append(topic_id(bootstrap, topic))
        produce(bootstrap, topic, [video])
        ended = daemon.once()
        assert ended.returncode == 0, (start, ended.stderr)

    lines = [
        json.loads(line) for file in (tmp_path / "captions").rglob("*.jsonl") for line in file.read_text().splitlines()
    ]
    assert len(set(ids)) == 3
    expected = sorted((f"{topic}/0/0@{each}", n) for each in ids for n in range(WINDOWS_EACH))
    assert sorted((line["clip_id"], line["window"]["index"]) for line in lines) == expected
    assert len(list((tmp_path / "captions").rglob("*.vtt"))) == 3


@SLOW_DELIVERY
def test_a_position_that_the_old_topic_left_means_nothing_in_the_new_one(
    bootstrap: str,
    make_topic: MakeTopic,
    make_again: Callable[[str], None],
    tmp_path: Path,
    video: bytes,
    delivery: str,
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    make_topic("captions.rejected")
    sources = {"clips": kafka_source(bootstrap, topic)}
    daemon = Daemon(tmp_path, sources, kafka_sink(bootstrap, output), delivery=delivery)
    produce(bootstrap, topic, [video] * 2)
    assert daemon.once().returncode == 0
    left = committed(bootstrap, topic)
    old = topic_id(bootstrap, topic)
    make_again(topic)
    new = topic_id(bootstrap, topic)
    produce(bootstrap, topic, [video] * 3)
    committed(bootstrap, topic, left)  # a commit that was under way when the topic went

    ended = daemon.once()

    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("is of an earlier topic of this name, and this one was made again") == 1
    assert f"The position of {topic}/0, offset 2" in ended.stderr
    assert "It goes on at offset 0, as start_from says." in ended.stderr
    found = [json.loads(record.value)["clip_id"] for record in read_all(bootstrap, output)]
    assert {clip_id: found.count(clip_id) for clip_id in found} == {
        f"{topic}/0/{offset}@{at}": WINDOWS_EACH for at, count in ((old, 2), (new, 3)) for offset in range(count)
    }
    third = daemon.once()
    assert (third.returncode, "earlier topic" in third.stderr) == (0, False)
    assert len(read_all(bootstrap, output)) == 5 * WINDOWS_EACH


@SLOW_DELIVERY
def test_a_topic_that_is_made_again_while_the_daemon_runs(
    bootstrap: str,
    make_topic: MakeTopic,
    make_again: Callable[[str], None],
    tmp_path: Path,
    video: bytes,
    delivery: str,
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    make_topic("captions.rejected")
    sources = {"clips": kafka_source(bootstrap, topic)}
    daemon = Daemon(tmp_path, sources, kafka_sink(bootstrap, output), delivery=delivery)
    ids = []
    with daemon.running():
        for generation in range(3):
            if generation:
                make_again(topic)
            ids.append(topic_id(bootstrap, topic))
            produce(bootstrap, topic, [video] * 3)
            expected = WINDOWS_EACH * 3 * (generation + 1)
            daemon.wait_until(lambda count=expected: len(seen(bootstrap, output)) >= count, 120)

    found = [json.loads(record.value)["clip_id"] for record in read_all(bootstrap, output)]
    assert {clip_id: found.count(clip_id) for clip_id in found} == {
        f"{topic}/0/{offset}@{at}": WINDOWS_EACH for at in ids for offset in range(3)
    }


@pytest.mark.thorough
def test_a_topic_that_is_gone_is_said_and_the_daemon_ends_when_it_is_told(
    bootstrap: str, make_topic: MakeTopic, admin: KafkaAdminClient, tmp_path: Path, video: bytes
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    make_topic("captions.rejected")
    daemon = Daemon(tmp_path, {"clips": kafka_source(bootstrap, topic)}, kafka_sink(bootstrap, output))
    produce(bootstrap, topic, [video])
    with daemon.running():
        daemon.wait_until(lambda: len(seen(bootstrap, output)) == WINDOWS_EACH)
        admin.delete_topics([topic])
        daemon.wait_until(lambda: f"topic {topic} stands still: it is not there" in daemon.log.read_text(), 120)
        admin.create_topics([NewTopic(topic, 1, 1)])
        admin.wait_for_topics([topic])
        produce(bootstrap, topic, [video])
        daemon.wait_until(lambda: len(seen(bootstrap, output)) == 2 * WINDOWS_EACH, 120)
        daemon.wait_until(lambda: f"topic {topic} goes on" in daemon.log.read_text(), 120)
        admin.delete_topics([topic])
        daemon.wait_until(lambda: daemon.log.read_text().count("stands still: it is not there") == 2, 120)
