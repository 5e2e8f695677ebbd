"""A topic whose clips a server refuses: no dead letter and no offset, and every clip captioned after a reload."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from connectors.kafka.client.producer import KafkaProducer
from testing.load import WINDOWS_EACH, write_load_clip
from testing.ports import free_port
from testing.refusing_server import RefusingServer, refusing_server
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.deliveries import SLOW_DELIVERY
from tests.kafka.stand_in import read_all, windows_of
from tests.kafka.topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
MakeTopic = Callable[..., str]
CLIPS = 12
LIMITS = ("max_clips_in_flight: 1", "in_flight_bytes: 8MiB")


@pytest.fixture
def server() -> Iterator[RefusingServer]:
    with refusing_server() as running:
        yield running


def send(bootstrap: str, topic: str, folder: Path, clips: int = CLIPS) -> None:
    write_load_clip(folder / "clip.mp4")
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for _ in range(clips):
        producer.send(topic, (folder / "clip.mp4").read_bytes())
    producer.flush(timeout=30)
    producer.close()


@SLOW_DELIVERY
@pytest.mark.parametrize(
    "more",
    ["", *(pytest.param(f"limits: {{{limit}}}\n", marks=pytest.mark.thorough) for limit in LIMITS)],
)
def test_a_run_that_ends_by_itself_rejects_nothing(
    bootstrap: str,
    make_topic: MakeTopic,
    server: RefusingServer,
    tmp_path: Path,
    delivery: str,
    more: str,
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    rejected = make_topic("captions.rejected")
    send(bootstrap, topic, tmp_path)
    sources = {"clips": kafka_source(bootstrap, topic)}
    daemon = Daemon(tmp_path, sources, kafka_sink(bootstrap, output), more, delivery, server.engine)

    ended = daemon.once()

    assert ended.returncode == 78, ended.stderr
    assert ended.stderr.count("Source clips is paused: ") == 1
    assert read_all(bootstrap, rejected) == []
    assert Topics(bootstrap, tmp_path, topic, output).committed() is None
    server.refuses = False
    ended = daemon.once()
    assert ended.returncode == 0, ended.stderr
    expected = {f"{topic}/0/{number}": list(range(WINDOWS_EACH)) for number in range(CLIPS)}
    assert windows_of(read_all(bootstrap, output)) == expected
    assert read_all(bootstrap, rejected) == []


@SLOW_DELIVERY
def test_a_daemon_goes_on_after_a_reload(
    bootstrap: str,
    make_topic: MakeTopic,
    server: RefusingServer,
    tmp_path: Path,
    delivery: str,
) -> None:
    topic, output = make_topic("clips"), make_topic("captions")
    rejected = make_topic("captions.rejected")
    send(bootstrap, topic, tmp_path)
    listen = f"127.0.0.1:{free_port()}"
    more = f"http: {{listen: '{listen}'}}\n"
    sources = {"clips": kafka_source(bootstrap, topic)}
    daemon = Daemon(tmp_path, sources, kafka_sink(bootstrap, output), more, delivery, server.engine)

    def paused() -> bool:
        try:
            return "clips is paused" in httpx.get(f"http://{listen}/readyz").text
        except httpx.HTTPError:
            return False

    with daemon.running() as process:
        daemon.wait_until(paused, 120)
        assert read_all(bootstrap, rejected) == []
        assert Topics(bootstrap, tmp_path, topic, output).committed() is None
        process.send_signal(signal.SIGHUP)  # nothing is mended
        daemon.wait_until(lambda: daemon.log.read_text().count("Source clips is paused: ") == 2, 120)
        server.refuses = False
        process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: len(read_all(bootstrap, output)) >= CLIPS * WINDOWS_EACH, 120)
        assert not paused()

    expected = {f"{topic}/0/{number}": list(range(WINDOWS_EACH)) for number in range(CLIPS)}
    assert windows_of(read_all(bootstrap, output)) == expected
    assert len(read_all(bootstrap, output)) == CLIPS * WINDOWS_EACH
    assert read_all(bootstrap, rejected) == []
