"""CloudEvents: an event's source and id make the clip, and what is said of it has ids of its own that stay."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from testing.load import WINDOWS_EACH, write_load_clip
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.deliveries import EACH_DELIVERY
from tests.kafka.stand_in import read_all
from tests.kafka.test_poison import send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
MakeTopic = Callable[..., str]


def event(event_id: bytes, source: bytes = b"/cams/3") -> list[tuple[str, bytes | None]]:
    """Return the headers of an event; every one has the same subject."""
    attributes = {"specversion": b"1.0", "id": event_id, "source": source, "subject": b"porch", "type": b"clip"}
    return [(f"ce_{name}", value) for name, value in attributes.items()]


@EACH_DELIVERY
def test_events_of_one_subject_are_clips_of_their_own_and_one_sent_twice_is_the_same(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, delivery: str
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    rejected = make_topic("captions.rejected")
    write_load_clip(tmp_path / "clip.mp4")
    video = (tmp_path / "clip.mp4").read_bytes()
    sources = {"clips": kafka_source(bootstrap, topic)}
    daemon = Daemon(tmp_path, sources, kafka_sink(bootstrap, output), delivery=delivery)
    events = [event(b"1"), event(b"2"), event(b"1", b"/cams/4"), event(b"\xff"), event(b"\xfe")]
    ids: list[list[str]] = []

    for _ in range(2):  # the second time, their sender had no answer and sent them again
        send(bootstrap, topic, *((video, headers) for headers in events), (b"no video", event(b"3")))
        ended = daemon.once()
        assert ended.returncode == 0, ended.stderr
        written = read_all(bootstrap, output)[len(ids) * WINDOWS_EACH * len(events) :]
        ids.append(sorted(dict(record.headers)["ce_id"].decode() for record in written))
        clips = {json.loads(record.value)["clip_id"] for record in written}
        assert len(clips) == len(events)
        assert {"/cams/3#1", "/cams/3#2", "/cams/4#1"} < clips

    assert ids[0] == ids[1]
    assert len(set(ids[0])) == WINDOWS_EACH * len(events)
    letters = [dict(letter.headers)["__captiond.errors.clip_id"] for letter in read_all(bootstrap, rejected)]
    assert letters == [b"/cams/3#3"] * 2
