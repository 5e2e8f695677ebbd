"""Messages in and out, through the real daemon."""

import functools
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import pytest

from connectors.kafka.client.producer import KafkaProducer
from connectors.kafka.record import ERRORS_PREFIX, REPLAY_PREFIX
from connectors.messages.schema import schemas
from daemon.config.clip_settings import prompt_of
from daemon.config.settings import GenerationSettings, PromptSettings
from testing.kafka.broker import Broker, NoBroker
from testing.load import WINDOWS_EACH, write_load_clip
from tests.kafka.conftest import skip_or_fail
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.deliveries import SLOW_DELIVERY
from tests.kafka.stand_in import place_of, produce, read_all, windows_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
MakeTopic = Callable[..., str]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """A web server over a folder with one clip under /clips/ and one elsewhere."""
    for folder in ("clips", "secret"):
        (tmp_path / "served" / folder).mkdir(parents=True)
        write_load_clip(tmp_path / "served" / folder / "clip.mp4")
    handler = functools.partial(_Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def send(bootstrap: str, topic: str, messages: list[tuple[bytes, dict[str, bytes]]]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for value, headers in messages:
        producer.send(topic, value, headers=list(headers.items()))
    producer.flush(timeout=30)
    producer.close()


def asked(text: str) -> str:
    """Return what messages call a question."""
    return prompt_of(PromptSettings(text=text), GenerationSettings()).hash


@SLOW_DELIVERY
def test_questions_ids_and_references(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, store: str, delivery: str
) -> None:
    topic, other, output = make_topic("clips"), make_topic("asked"), make_topic("captions")
    rejected = make_topic("captions.rejected")
    (tmp_path / "shelf").mkdir()
    write_load_clip(tmp_path / "shelf" / "film.mp4")
    video = (tmp_path / "shelf" / "film.mp4").read_bytes()
    event = {"ce_specversion": b"1.0", "ce_id": b"e-1", "ce_source": b"/cams/3", "content-type": b"video/mp4"}
    remote = {"uri": f"{store}/clips/clip.mp4", "clip_id": "remote-1", "prompt": "Who is there?"}
    secret = json.dumps({"uri": f"{store}/secret/clip.mp4"}).encode()
    send(
        bootstrap,
        topic,
        [
            (video, {}),
            (video, {"prompt": b"What is blue?"}),
            (video, event),
            (json.dumps(remote).encode(), {"content-type": b"application/json"}),
            (json.dumps({"uri": "film.mp4"}).encode(), {}),
            (secret, {}),
            (json.dumps({"uri": "../captiond.yaml"}).encode(), {}),
        ],
    )
    send(bootstrap, other, [(video, {})])
    more = f", references: {{roots: [shelf], url_prefixes: ['{store}/clips/']}}, prompts: {{{other}: 'What moves?'}}"
    source = kafka_source(bootstrap, topic, more).replace(f"topics: [{topic}]", f"topics: [{topic}, {other}]")
    daemon = Daemon(tmp_path, {"clips": source}, kafka_sink(bootstrap, output), delivery=delivery)

    ended = daemon.once()

    assert ended.returncode == 0, ended.stderr
    messages = [json.loads(record.value) for record in read_all(bootstrap, output)]
    assert {place_of(message["clip_id"]): message["prompt_hash"] for message in messages} == {
        f"{topic}/0/0": asked("Describe this video."),
        f"{topic}/0/1": asked("What is blue?"),
        "/cams/3#e-1": asked("Describe this video."),
        "remote-1": asked("Who is there?"),
        f"{topic}/0/4": asked("Describe this video."),
        f"{other}/0/0": asked("What moves?"),
    }
    assert len(messages) == 6 * WINDOWS_EACH
    letters = {record.value: dict(record.headers) for record in read_all(bootstrap, rejected)}
    assert {headers[f"{ERRORS_PREFIX}exception.class.name"] for headers in letters.values()} == {b"forbidden_path"}
    assert letters[secret][f"{ERRORS_PREFIX}offset"] == b"5"
    assert len(letters) == 2
    assert list((tmp_path / "state" / "spool").iterdir()) == []


def test_kafkas_own_consumer_agrees_about_what_is_committed(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path
) -> None:
    """An oracle that is not kafka-python: among the captions of an aborted transaction both see the same."""
    topic, output = make_topic("clips", partitions=2), make_topic("captions", partitions=2)
    make_topic("captions.rejected")
    write_load_clip(tmp_path / "clip.mp4")
    produce(bootstrap, topic, [(tmp_path / "clip.mp4").read_bytes()] * 10)
    aborting = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"aborts-{topic}")
    aborting.init_transactions()
    aborting.begin_transaction()
    for partition in (0, 1):
        aborting.send(output, b'{"never": "committed"}', partition=partition)
    aborting.flush()
    aborting.abort_transaction()
    aborting.close()
    sink, source = kafka_sink(bootstrap, output), kafka_source(bootstrap, topic)
    ended = Daemon(tmp_path, {"clips": source}, sink, delivery="transactional").once()
    assert ended.returncode == 0, ended.stderr
    try:
        tools = Broker(tmp_path / "tools")  # its tools alone: it is never started
    except NoBroker as missing:
        skip_or_fail(missing)

    arguments = ["--bootstrap-server", bootstrap, "--topic", output, "--from-beginning", "--timeout-ms", "8000"]

    def said(level: str) -> list[str]:
        printed = tools.tool("consumer.ConsoleConsumer", *arguments, "--isolation-level", level)
        return sorted(line for line in printed.splitlines() if line.startswith("{"))  # it logs beside what it reads

    records = read_all(bootstrap, output)
    with ThreadPoolExecutor() as at_once:  # each waits for seconds whether more comes
        committed, uncommitted = at_once.map(said, ("read_committed", "read_uncommitted"))
    assert committed == sorted(record.value.decode() for record in records)
    assert len(uncommitted) == len(records) + 2
    assert sorted(windows_of(records).values()) == [list(range(WINDOWS_EACH))] * 10


@SLOW_DELIVERY
def test_topics_by_pattern_to_a_topic_of_each_source(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, name: str, delivery: str
) -> None:
    make_topic("captions.cams")
    make_topic("rejected")
    write_load_clip(tmp_path / "clip.mp4")
    topics = [make_topic("cam.1"), make_topic("cam.2"), make_topic("cam.2.old")]
    for topic in topics:
        produce(bootstrap, topic, [(tmp_path / "clip.mp4").read_bytes()] * 2)
    at = f"kind: kafka, bootstrap_servers: '{bootstrap}'"
    source = f"{{{at}, topic_pattern: '{name}[.]cam[.][0-9]', group_id: {name}}}"
    sink = f"{{{at}, topic: '{name}.captions.{{source}}', dead_letter_topic: {name}.rejected, compression: gzip}}"

    ended = Daemon(tmp_path, {"cams": source}, sink, delivery=delivery).once()

    assert ended.returncode == 0, ended.stderr
    found = windows_of(read_all(bootstrap, f"{name}.captions.cams"))
    assert set(found) == {f"{topic}/0/{offset}" for topic in topics[:2] for offset in (0, 1)}
    assert set(map(tuple, found.values())) == {tuple(range(WINDOWS_EACH))}


@SLOW_DELIVERY
def test_a_caption_that_its_topic_refuses_ends_its_clip_by_name(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, delivery: str
) -> None:
    topic, output = make_topic("clips"), make_topic("captions", **{"max.message.bytes": "600"})
    rejected = make_topic("captions.rejected")
    write_load_clip(tmp_path / "clip.mp4")
    produce(bootstrap, topic, [(tmp_path / "clip.mp4").read_bytes()])
    sources = {"clips": kafka_source(bootstrap, topic)}

    ended = Daemon(tmp_path, sources, kafka_sink(bootstrap, output), delivery=delivery).once()

    assert ended.returncode == 0, ended.stderr
    assert "Rejected as caption_too_large" in ended.stderr
    (letter,) = read_all(bootstrap, rejected)
    assert dict(letter.headers)[f"{ERRORS_PREFIX}exception.class.name"] == b"caption_too_large"
    assert letter.value == (tmp_path / "clip.mp4").read_bytes()
    assert read_all(bootstrap, output) == []


def test_the_replay_command_sends_dead_letters_through_again(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    rejected = make_topic("captions.rejected")
    produce(bootstrap, topic, [b"no video", b"none either"], headers=[("color", b"blue")])
    daemon = Daemon(tmp_path, {"clips": kafka_source(bootstrap, topic)}, kafka_sink(bootstrap, output))
    assert daemon.once().returncode == 0

    replayed = daemon.once("replay")
    assert (replayed.returncode, replayed.stdout) == (0, "Sent 2 dead letters through again.\n"), replayed.stderr
    assert daemon.once("replay").stdout == "Sent 0 dead letters through again.\n"
    assert daemon.once().returncode == 0

    letters = [(letter.value, dict(letter.headers)) for letter in read_all(bootstrap, rejected)]
    told = [(value, headers.get(f"{REPLAY_PREFIX}count", b"0")) for value, headers in letters]
    assert sorted(told) == [(value, count) for value in (b"no video", b"none either") for count in (b"0", b"1")]
    for value, headers in letters:
        first = f"{topic}/0/{0 if value == b'no video' else 1}"
        clip_id = place_of(headers[f"{ERRORS_PREFIX}clip_id"].decode())
        assert (clip_id, headers["color"]) == (first, b"blue")


@SLOW_DELIVERY
def test_each_question_has_its_topic_and_a_consumer_with_the_schema_reads_every_answer(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, delivery: str
) -> None:
    topic = make_topic("clips")
    output = make_topic("captions")  # of no question: only the name that the others begin with
    make_topic("captions.rejected")
    write_load_clip(tmp_path / "clip.mp4")
    video = (tmp_path / "clip.mp4").read_bytes()
    send(bootstrap, topic, [(video, {"camera": b"North"})])
    loop = "the dog runs " * 12
    script = {"says": {"alert": ["yes", "maybe", "no", loop], "caption": ["A dog.", "I can't help.", "It runs."]}}
    (tmp_path / "script.yaml").write_text(json.dumps(script))
    questions = {
        "caption": {"text": "What does {attributes.camera} show?"},
        "alert": {"text": "A fire?", "choice": ["yes", "no"]},
    }
    more = {"prompts": questions, "quality": {"loops": True, "refusals": ["I can't"]}, "generation": {"retries": 0}}
    names = {name: f"{output}.{name}" for name in questions}
    sink = kafka_sink(bootstrap, output).replace(f"topic: {output},", f"topic: '{output}.{{prompt}}',")
    engine = f"{{kind: fake, script: {tmp_path / 'script.yaml'}}}"
    lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in more.items())
    daemon = Daemon(tmp_path, {"clips": kafka_source(bootstrap, topic)}, sink, lines, delivery, engine)

    missing = daemon.once("check")
    for name in questions:
        make_topic(f"captions.{name}")
    ended = daemon.once()

    assert missing.returncode == 78
    assert "sink.topic" in missing.stderr
    assert ended.returncode == 0, ended.stderr
    found = {name: read_all(bootstrap, written) for name, written in names.items()}
    statuses = set[str]()
    for name, records in found.items():
        messages = [json.loads(record.value) for record in records]
        for record, message in zip(records, messages, strict=True):
            jsonschema.validate(message, schemas()["caption"])
            assert message["prompt"] == dict(record.headers)["captiond_prompt"].decode() == name
            statuses.add(message["status"])
        assert [message["window"]["index"] for message in messages] == list(range(WINDOWS_EACH))
    assert statuses == {"success", "invalid", "looping", "refused"}
