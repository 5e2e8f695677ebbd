"""The way of many clips: a bucket's objects to references, through kills, and from there to captions by two daemons.

``ENQUEUE_OBJECTS=100000`` takes as many objects. Each step says how long it took where pytest is run with ``-s``.
"""

import os
import random
import shutil
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from testing.bucket import object_names
from testing.load import write_load_clip
from testing.ports import free_ports
from testing.repository import ROOT
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.stand_in import seen
from tests.kafka.test_enqueue import written
from tests.kafka.topics import Topics

OBJECTS = int(os.environ.get("ENQUEUE_OBJECTS", "2500"))
KILLS = 20
BATCH = min(max(OBJECTS // 50, 5), 500)  # references in a transaction: fewer than usual, so that kills hit more of them
SLOWEST_PER_S = 2  # objects captioned, where the machine is busy with much else

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600 + OBJECTS // SLOWEST_PER_S)]

MakeTopics = Callable[..., Topics]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the URLs of the objects of an S3 server of this machine, which fsspec finds by Amazon's own variables."""
    server = shutil.which("moto_server")
    pytest.importorskip("s3fs", reason="no s3fs: the extra s3 brings it")
    if server is None:
        pytest.skip("no moto_server: the Python package moto[server] brings it")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", url),
    ):
        monkeypatch.setenv(name, value)
    write_load_clip(tmp_path / "clip.mp4", windows=1, side_px=32)
    with (tmp_path / "moto.log").open("wb") as log:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        python = Path(server).with_name("python")
        arguments = [str(port), "bucket", str(OBJECTS), str(tmp_path / "clip.mp4")]
        command = [python, ROOT / "testing" / "bucket.py", *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        deadline_s = time.monotonic() + 120 + OBJECTS / 100
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline_s
                assert process.poll() is None, (tmp_path / "moto.log").read_text()
                time.sleep(0.2)
        yield [f"s3://bucket/{name}" for name in object_names(OBJECTS)]
    finally:
        process.kill()
        process.wait()


def test_every_object_of_a_bucket_is_written_once_through_kills_and_captioned_once(
    make_topics: MakeTopics, tmp_path: Path, bucket: list[str]
) -> None:
    topics = make_topics(partitions=4)
    daemons = [daemon_over(tmp_path / name, topics) for name in ("one", "two")]

    begun_s = time.monotonic()
    killed = enqueue_through_kills(topics, daemons[0])
    print(f"\n{OBJECTS} objects enqueued in {time.monotonic() - begun_s:.0f} s, killed {killed} times of {KILLS}")
    references = written(topics)
    assert killed >= KILLS // 2
    assert sorted(references) == sorted(bucket)

    begun_s = time.monotonic()
    caption(topics, daemons)
    took_s = time.monotonic() - begun_s
    captions = Counter(record.key.decode() for record in topics.read())
    print(f"{len(captions)} captioned by two daemons in {took_s:.0f} s, {OBJECTS / took_s:.1f} a second")
    assert topics.letters() == []
    assert captions == Counter(bucket)


def daemon_over(folder: Path, topics: Topics) -> Daemon:
    folder.mkdir()
    source = kafka_source(topics.bootstrap, topics.clips, ", references: {url_prefixes: ['s3://bucket/clips/']}")
    more = f"state_dir: {folder / 'state'}\n"
    sink = kafka_sink(topics.bootstrap, topics.captions)
    return Daemon(folder, {"t": source}, sink, more, delivery="transactional")


def enqueue_through_kills(topics: Topics, daemon: Daemon) -> int:
    """Enqueue the bucket by calls that are killed, then by one that is not; returns how many were killed."""
    command = daemon.command("enqueue", "s3://bucket/clips", "--topic", topics.clips)
    script = (
        f"from connectors.enqueue import references; references.BATCH = {BATCH}; "
        "import runpy; runpy.run_module('daemon', run_name='__main__')"
    )
    command = [command[0], "-c", script, *command[3:]]
    draw, killed = random.Random(1), 0
    for _ in range(KILLS):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        target = len(seen(topics.bootstrap, topics.clips)) + draw.randint(1, max(1, OBJECTS // KILLS))
        while process.poll() is None and len(seen(topics.bootstrap, topics.clips)) < target:
            time.sleep(draw.uniform(0, 0.05))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return killed


def caption(topics: Topics, daemons: list[Daemon]) -> None:
    """Let daemons of one group run until there are as many captions as objects, and stop them cleanly."""
    with ExitStack() as stack:
        processes = [stack.enter_context(daemon.running()) for daemon in daemons]

        def done() -> bool:
            for daemon, process in zip(daemons, processes, strict=True):
                assert process.poll() is None, daemon.log.read_text()[-2000:]
            return len(topics.seen()) >= OBJECTS

        daemons[0].wait_until(done, 300 + OBJECTS / SLOWEST_PER_S)
