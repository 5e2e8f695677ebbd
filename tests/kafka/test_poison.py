"""No record ends the daemon or holds it up, at three starts each, and its dead letter keeps what the record held."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.kafka.client.producer import KafkaProducer
from connectors.kafka.client.workarounds import HeaderName, headers_with_nulls
from connectors.kafka.record import ERRORS_PREFIX, REPLAY_PREFIX
from testing.load import WINDOWS_EACH, write_load_clip
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.deliveries import SLOW_DELIVERY
from tests.kafka.stand_in import place_of, read_all, windows_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
MakeTopic = Callable[..., str]
Header = tuple[str, bytes | None]

NOT_UTF_8 = HeaderName(b"caf\xe9\xff".decode("utf-8", "surrogateescape"))
POISON: dict[str, Header] = {
    "null_value": ("content-type", None),
    "null_trace": ("traceparent", None),
    "name_not_utf_8": (NOT_UTF_8, b"x"),
    "first_window_of_5000_digits": (f"{REPLAY_PREFIX}first_window", b"9" * 5000),
}


LONE_BYTES = HeaderName(b"\xff\xfe".decode("utf-8", "surrogateescape"))
ODD_HEADERS: list[list[Header]] = [
    *([header] for header in POISON.values()),
    [("prompt", None)],
    [("tracestate", None)],
    [("", b"no name")],
    [("", None)],
    [(NOT_UTF_8, None)],
    [(NOT_UTF_8, b"\xff"), (LONE_BYTES, b"")],
    [("color", None), ("color", b"blue"), ("color", None)],
    [("content-type", b"video/mp4"), ("content-type", None)],
    [("content-type", b"\xff\xfe")],
    [("traceparent", b"\xff"), ("tracestate", b"\x00")],
    [(name, None) for name in ("ce_specversion", "ce_id", "ce_source", "ce_subject", "ce_type", "ce_time")],
    [("ce_specversion", b"1.0"), ("ce_id", None), ("ce_source", b"/cams")],
    [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", None)],
    [(f"{REPLAY_PREFIX}{name}", None) for name in ("clip_id", "first_window", "plan_hash", "count", "signature")],
    [(f"{ERRORS_PREFIX}{name}", None) for name in ("topic", "clip_id", "offset")],
    [(f"{ERRORS_PREFIX}clip_id", b"another's")],
    [(f"h{n}", None if n % 3 else b"x") for n in range(5000)],
]


def send(bootstrap: str, topic: str, *records: tuple[bytes, list[Header]]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for value, headers in records:
        producer.send(topic, value, headers=headers_with_nulls(headers))
    producer.flush(timeout=30)
    producer.close()


@pytest.mark.thorough  # each alone; the test below has such headers together
@pytest.mark.parametrize("header", POISON.values(), ids=list(POISON))
def test_three_starts_over_one_odd_header(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, header: Header
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    rejected = make_topic("captions.rejected")
    write_load_clip(tmp_path / "clip.mp4")
    video = (tmp_path / "clip.mp4").read_bytes()
    daemon = Daemon(tmp_path, {"clips": kafka_source(bootstrap, topic)}, kafka_sink(bootstrap, output))

    for start in range(3):
        send(bootstrap, topic, (video, []), (video, [header]), (b"no video", [header]), (video, []))
        ended = daemon.once()
        assert ended.returncode == 0, (start, ended.stderr)

    found = windows_of(read_all(bootstrap, output))
    assert found == {f"{topic}/0/{n}": list(range(WINDOWS_EACH)) for n in range(12) if n % 4 != 2}
    letters = read_all(bootstrap, rejected)
    assert [dict(letter.headers)[f"{ERRORS_PREFIX}exception.class.name"] for letter in letters] == [b"not_a_video"] * 3
    assert all(header in letter.headers for letter in letters)
    replayed = daemon.once("replay")
    assert (replayed.returncode, replayed.stdout) == (0, "Sent 3 dead letters through again.\n"), replayed.stderr


@SLOW_DELIVERY
def test_three_starts_over_every_odd_header(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, delivery: str
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    rejected = make_topic("captions.rejected")
    write_load_clip(tmp_path / "clip.mp4")
    video = (tmp_path / "clip.mp4").read_bytes()
    sources = {"clips": kafka_source(bootstrap, topic)}
    daemon = Daemon(tmp_path, sources, kafka_sink(bootstrap, output), delivery=delivery)

    for start in range(3):
        send(bootstrap, topic, *((value, headers) for headers in ODD_HEADERS for value in (video, b"no video")))
        ended = daemon.once()
        assert ended.returncode == 0, (start, ended.stderr)

    count = 3 * 2 * len(ODD_HEADERS)
    found = windows_of(read_all(bootstrap, output))
    assert found == {f"{topic}/0/{n}": list(range(WINDOWS_EACH)) for n in range(0, count, 2)}
    letters = {}
    for letter in read_all(bootstrap, rejected):
        given = [(name, value) for name, value in letter.headers if not name.startswith(ERRORS_PREFIX)]
        told = {name.removeprefix(ERRORS_PREFIX): value for name, value in letter.headers}
        letters[int(told["offset"] or b"-1")] = (
            given,
            told["exception.class.name"],
            place_of((told["clip_id"] or b"").decode()),
        )
    assert sorted(letters) == list(range(1, count, 2))
    for offset, (given, reason, clip_id) in letters.items():
        sent = ODD_HEADERS[offset // 2 % len(ODD_HEADERS)]
        assert given == [(name, value) for name, value in sent if not name.startswith(ERRORS_PREFIX)]
        assert (reason, clip_id) == (b"not_a_video", f"{topic}/0/{offset}")
    replayed = daemon.once("replay")
    assert (replayed.returncode, replayed.stdout) == (0, f"Sent {len(letters)} dead letters through again.\n")


@pytest.mark.parametrize("value", [b"no video", None], ids=["rejected", "captioned"])
def test_three_starts_over_a_file_whose_name_is_not_utf_8(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, value: bytes | None
) -> None:
    output = make_topic("captions")
    rejected = make_topic("captions.rejected")
    write_load_clip(tmp_path / "clip.mp4")
    (tmp_path / "inbox").mkdir()
    source = "{kind: folder, path: inbox, settle_s: 0.1}"
    daemon = Daemon(tmp_path, {"inbox": source}, kafka_sink(bootstrap, output))

    for start in range(3):
        odd = os.fsencode(tmp_path / "inbox") + b"/caf\xe9\xff%d.mp4" % start
        Path(os.fsdecode(odd)).write_bytes(value or (tmp_path / "clip.mp4").read_bytes())
        ended = daemon.once()
        assert ended.returncode == 0, (start, ended.stderr)

    found = windows_of(read_all(bootstrap, output))
    letters = read_all(bootstrap, rejected)
    assert (len(found), len(letters)) == ((0, 3) if value else (3, 0))


@pytest.mark.parametrize("believed", [False, True], ids=["unsigned", "believed"])
def test_three_starts_over_a_replay_that_a_sender_made_up(
    bootstrap: str, make_topic: MakeTopic, tmp_path: Path, believed: bool
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    make_topic("captions.rejected")
    write_load_clip(tmp_path / "clip.mp4")
    video = (tmp_path / "clip.mp4").read_bytes()
    source = kafka_source(bootstrap, topic, f", senders_may: {{replay: {str(believed).lower()}}}")
    daemon = Daemon(tmp_path, {"clips": source}, kafka_sink(bootstrap, output))
    send(bootstrap, topic, (video, []))
    assert daemon.once().returncode == 0
    plan = json.loads(read_all(bootstrap, output)[0].value)["plan_hash"].encode()

    said = {"clip_id": b"other", "first_window": b"99", "plan_hash": plan, "signature": b"0" * 64}
    for start in range(3):
        send(bootstrap, topic, (video, [(REPLAY_PREFIX + name, value) for name, value in said.items()]))
        ended = daemon.once()
        assert ended.returncode == 0, (start, ended.stderr)
        assert ("is not signed by this installation" in ended.stderr) != believed

    windows = list(range(WINDOWS_EACH))
    found = windows_of(read_all(bootstrap, output))
    own = {f"{topic}/0/{n}": windows for n in range(4)}
    assert found == ({f"{topic}/0/0": windows, "other": windows * 3} if believed else own)
