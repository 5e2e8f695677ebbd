"""Every pairing of edges, through the real daemon over a real broker."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.kafka.record import ERRORS_PREFIX
from testing.load import WINDOWS_EACH, write_load_clip
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.stand_in import place_of, produce, read_all, seen, windows_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
MakeTopic = Callable[..., str]
WHOLE = list(range(WINDOWS_EACH))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_load_clip(tmp_path / "clip.mp4")
    return tmp_path / "clip.mp4"


def test_folder_to_kafka(bootstrap: str, make_topic: MakeTopic, tmp_path: Path, clip: Path) -> None:
    output, rejected = make_topic("captions", partitions=2), make_topic("captions.rejected")
    inbox = tmp_path / "inbox"
    (inbox / "sub").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4", "sub/c.mp4"):
        shutil.copy(clip, inbox / name)
    (inbox / "broken.mp4").write_bytes(b"not a video at all")
    daemon = Daemon(tmp_path, {"inbox": "{kind: folder, path: inbox, settle_s: 0}"}, kafka_sink(bootstrap, output))

    for _ in range(2):  # the second time nothing is left to do
        ended = daemon.once()
        assert ended.returncode == 0, ended.stderr

    records = read_all(bootstrap, output)
    assert sorted(windows_of(records).values()) == [WHOLE] * 3
    assert {json.loads(record.value)["clip_name"] for record in records} == {"a.mp4", "b.mp4", "sub/c.mp4"}
    assert all(record.key.decode() == json.loads(record.value)["clip_id"] for record in records)
    (letter,) = read_all(bootstrap, rejected)
    headers = dict(letter.headers)
    assert (
        json.loads(letter.value)["reason"] == headers[f"{ERRORS_PREFIX}exception.class.name"].decode() == "not_a_video"
    )
    assert headers["ce_type"] == b"captiond.clip.v1"
    assert (inbox / "failed" / "broken.mp4").exists()
    assert sorted(path.name for path in (inbox / "done").rglob("*.mp4")) == ["a.mp4", "b.mp4", "c.mp4"]


def test_kafka_to_folder(bootstrap: str, make_topic: MakeTopic, tmp_path: Path, clip: Path) -> None:
    topic = make_topic("clips")
    produce(bootstrap, topic, [clip.read_bytes(), b"not a video at all", None, clip.read_bytes()])
    daemon = Daemon(tmp_path, {"clips": kafka_source(bootstrap, topic)}, "{kind: folder, path: captions}")

    for _ in range(2):
        ended = daemon.once()
        assert ended.returncode == 0, ended.stderr

    written = tmp_path / "captions" / "clips" / topic / "0"
    for offset in (0, 3):
        messages = [json.loads(line) for line in (written / f"{offset}.jsonl").read_text().splitlines()]
        assert [message["window"]["index"] for message in messages] == WHOLE
        assert {place_of(message["clip_id"]) for message in messages} == {f"{topic}/0/{offset}"}
        assert (written / f"{offset}.vtt").read_text().startswith("WEBVTT")
    (rejection,) = [json.loads(line) for line in (written / "1.jsonl").read_text().splitlines()]
    assert (rejection["status"], rejection["reason"]) == ("rejected", "not_a_video")
    assert not (written / "2.jsonl").exists()


def test_many_sources_share_one_daemon_fairly(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, clip: Path
) -> None:
    """Two small sources come while a third has a backlog that fills every slot: each gets its share at once."""
    backlog, small, output = make_topic("backlog"), make_topic("small"), make_topic("captions")
    make_topic("captions.rejected")
    (tmp_path / "inbox").mkdir()
    produce(bootstrap, backlog, [clip.read_bytes()] * 60)
    daemon = Daemon(
        tmp_path,
        {
            "backlog": kafka_source(bootstrap, backlog),
            "small": kafka_source(bootstrap, small),
            "inbox": "{kind: folder, path: inbox, settle_s: 0, scan_s: 0.5}",
        },
        kafka_sink(bootstrap, output),
        more="limits: {max_clips_in_flight: 6}\n",
        engine="{kind: fake, slots: 6, delay_ms: 100}",
    )

    def sources() -> list[str]:
        return [json.loads(record.value)["source"] for record in seen(bootstrap, output)]

    with daemon.running():
        daemon.wait_until(lambda: sources().count("backlog") >= WINDOWS_EACH)
        produce(bootstrap, small, [clip.read_bytes()] * 6)
        for number in range(6):
            shutil.copy(clip, tmp_path / f"{number}.part")
            (tmp_path / f"{number}.part").rename(tmp_path / "inbox" / f"{number}.mp4")
        already = sources().count("backlog")
        daemon.wait_until(lambda: len(sources()) == 72 * WINDOWS_EACH)

    order = sources()
    counts = [order.count(name) // WINDOWS_EACH for name in ("backlog", "small", "inbox")]
    assert counts == [60, 6, 6]
    for name in ("small", "inbox"):
        last = len(order) - order[::-1].index(name)
        meanwhile = order[:last].count("backlog") - already
        # each of the three is sure of two of six slots: while six clips of one pass, the others pass about as many
        assert meanwhile <= 20 * WINDOWS_EACH, (name, meanwhile)
