"""References to what lies in a folder or a store, written to a topic: each once, however often it is broken off."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from connectors.enqueue import references
from connectors.enqueue.allowed import enqueue_allowed
from connectors.enqueue.listing import Store
from connectors.enqueue.references import Enqueued, Wanted, enqueue
from connectors.errors import ConfigurationError, Poison, Reason, Unavailable
from connectors.kafka.client.errors import BrokerAway, ProducerUnusable
from connectors.kafka.client.producer import TopicProducer
from connectors.kafka.settings import KafkaSourceSettings
from testing.load import write_load_clip
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.stand_in import read_all
from tests.kafka.topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

MakeTopics = Callable[..., Topics]


def taken(_: str) -> None:
    pass


def run(topics: Topics, store: Store, *, check: Callable[[str], None] = taken, **wanted: Any) -> list[Enqueued]:
    settings = KafkaSourceSettings(bootstrap_servers=topics.bootstrap, topics=topics.clips)
    return list(enqueue(store, Wanted(topics.clips, **wanted), "t", settings, check=check))


def written(topics: Topics, folder: Path | None = None) -> list[str]:
    """Return the names in the references, in the order of each partition."""
    uris = [json.loads(record.value)["uri"] for record in read_all(topics.bootstrap, topics.clips)]
    return uris if folder is None else [str(Path(uri).relative_to(folder)) for uri in uris]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder whose names sort otherwise as bytes than folder by folder."""
    at = tmp_path / "clips"
    for name in ("a.mp4", "a/z.mp4", "a/b/c.mp4", "a-b.mp4", "b.txt", "é/ü.mp4", "z z.mp4"):
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(name.encode())
    (at / "link.mp4").symlink_to(at / "a.mp4")
    return at


def test_names_go_in_order_once_and_later_ones_follow(make_topics: MakeTopics, folder: Path) -> None:
    topics, store = make_topics(), Store(str(folder))

    first = run(topics, store, pattern="**/*.mp4", limit=2)[-1]
    assert (first.written, first.before) == (2, 0)
    second = run(topics, store, pattern="**/*.mp4")[-1]
    assert (second.written, second.before, second.passed_over) == (4, 2, 1)
    assert written(topics, folder) == ["a-b.mp4", "a.mp4", "a/b/c.mp4", "a/z.mp4", "z z.mp4", "é/ü.mp4"]

    (folder / "é" / "ß.mp4").write_bytes(b"earlier than the last name")
    (folder / "ö.mp4").write_bytes(b"later")
    assert run(topics, store, pattern="**/*.mp4")[-1].written == 1
    assert written(topics, folder)[-1] == "ö.mp4"
    assert run(topics, store, pattern="**/*.mp4", again=True)[-1].written == 8


def test_what_the_source_would_reject_is_counted_and_what_is_old_is_not_wanted(
    make_topics: MakeTopics, folder: Path
) -> None:
    topics = make_topics()
    os.utime(folder / "a.mp4", (0, 0))

    def check(uri: str) -> None:
        if " " in uri:
            raise Poison(Reason.FORBIDDEN_PATH, "no spaces", origin="source")

    since = references.datetime.fromtimestamp(1e6, references.datetime.now().astimezone().tzinfo)
    done = run(topics, Store(str(folder)), check=check, since=since)[-1]

    assert (done.written, done.refused, done.passed_over, done.why_refused) == (5, 1, 1, "z z.mp4: no spaces")


def test_a_batch_that_is_not_committed_is_written_by_the_next_call(
    make_topics: MakeTopics, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics, store = make_topics(), Store(str(folder))
    monkeypatch.setattr(references, "BATCH", 2)
    commit, commits = TopicProducer.begin_commit, iter([True, False])

    def failing(self: TopicProducer) -> Any:
        if not next(commits, True):
            raise ProducerUnusable("struck")
        return commit(self)

    monkeypatch.setattr(TopicProducer, "begin_commit", failing)
    with pytest.raises(ProducerUnusable):
        run(topics, store)
    assert len(written(topics)) == 2

    assert run(topics, store)[-1].before == 2
    assert written(topics, folder) == ["a-b.mp4", "a.mp4", "a/b/c.mp4", "a/z.mp4", "b.txt", "z z.mp4", "é/ü.mp4"]


def test_a_broker_that_takes_no_transaction_yet_is_asked_again(
    make_topics: MakeTopics, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics, store = make_topics(), Store(str(folder))
    init, answers = TopicProducer.init_transactions, iter([False, False])

    def slow(self: TopicProducer) -> None:
        if not next(answers, True):
            raise KafkaTimeoutError("not yet")
        init(self)

    monkeypatch.setattr(TopicProducer, "init_transactions", slow)
    monkeypatch.setattr(references, "_PAUSE_S", 0.01)

    assert run(topics, store)[-1].written == 7
    monkeypatch.setattr(references, "_START_S", -1.0)
    answers = iter([False])
    with pytest.raises(BrokerAway):
        run(topics, store)


def test_a_call_that_is_broken_off_says_so_and_is_no_bug(
    make_topics: MakeTopics, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = make_topics()
    settings = KafkaSourceSettings(
        bootstrap_servers=topics.bootstrap, topics=topics.clips, references={"roots": [folder]}
    )

    def struck(self: TopicProducer) -> Any:
        raise ProducerUnusable("struck")

    monkeypatch.setattr(TopicProducer, "begin_commit", struck)
    with pytest.raises(Unavailable, match=r"struck\. A further call goes on where it stopped") as fault:
        list(enqueue_allowed(str(folder), Wanted(topics.clips), [("t", settings)]))

    assert fault.value.exit_code == 75


def daemon_over(tmp_path: Path, topics: Topics, allowed: str) -> Daemon:
    source = kafka_source(topics.bootstrap, topics.clips, f", references: {allowed}")
    return Daemon(tmp_path, {"t": source}, kafka_sink(topics.bootstrap, topics.captions), "state_dir: state\n")


def test_a_folder_is_enqueued_and_captioned_from_there(make_topics: MakeTopics, tmp_path: Path) -> None:
    topics = make_topics()
    (tmp_path / "clips").mkdir()
    for number in range(3):
        write_load_clip(tmp_path / "clips" / f"{number}.mp4")
    daemon = daemon_over(tmp_path, topics, f"{{roots: [{tmp_path / 'clips'}]}}")

    refused = daemon.run("enqueue", str(tmp_path), "--topic", topics.clips)
    assert refused.returncode == 78
    assert "references.roots" in refused.stderr
    ended = daemon.run("enqueue", str(tmp_path / "clips"), "--topic", topics.clips)
    assert ended.returncode == 0, ended.stderr
    assert f"3 references were written to {topics.clips}." in ended.stdout

    assert daemon.once().returncode == 0
    assert {record.key.decode() for record in topics.read()} == {str(tmp_path / "clips" / f"{n}.mp4") for n in range(3)}
    assert topics.letters() == []


def test_a_place_that_can_not_be_listed_is_refused(tmp_path: Path) -> None:
    for location in ("nothing://bucket/x", "zip://a::s3://bucket/b.zip"):
        with pytest.raises(ConfigurationError):
            Store(location)
