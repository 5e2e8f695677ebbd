"""Mistakes about a cluster, through the real `captiond check` and `captiond run`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.kafka.client.admin import KafkaAdminClient, NewTopic
from testing.kafka.broker import Broker
from testing.kafka.secure_broker import USERS, SecureBroker
from testing.load import WINDOWS_EACH, write_load_clip
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.stand_in import produce, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
RIGHT = {"password": USERS["captiond"], "ca": "ca", "topic": "own-clips", "group": "own-group"}
RIGHT |= {"output": "own-captions"}


@pytest.fixture(scope="module")
def own(secure: SecureBroker) -> SecureBroker:
    """The secure broker, with topics and rights of these tests' own."""
    secure.make_topics("own-clips", "own-captions", "own-captions.rejected", "others")
    secure.allow("READ WRITE DESCRIBE", "TOPIC", "own-", prefixed=True)
    secure.allow("READ", "GROUP", "own-", prefixed=True)
    return secure


def secured(own: SecureBroker, folder: Path, **changes: str) -> Daemon:
    """Return a daemon over the secure broker; ``changes`` are what its user got wrong."""
    given = RIGHT | changes
    ca_file = own.ca_file if given["ca"] == "ca" else own.other_ca_file
    connection = (
        f", security_protocol: SASL_SSL, sasl_mechanism: SCRAM-SHA-256, sasl_username: captiond, "
        f"password_file: '{own.password_file(given['password'])}', ssl_cafile: '{ca_file}'"
    )
    source = kafka_source(own.bootstrap, given["topic"], connection).replace(
        f"group_id: {given['topic']}", f"group_id: {given['group']}"
    )
    return Daemon(folder, {"clips": source}, kafka_sink(own.bootstrap, given["output"], connection))


def test_the_right_settings_work(own: SecureBroker, tmp_path: Path) -> None:
    write_load_clip(tmp_path / "clip.mp4")
    produce(own.broker.bootstrap, "own-clips", [(tmp_path / "clip.mp4").read_bytes()])
    daemon = secured(own, tmp_path)

    checked, ran = daemon.once("check"), daemon.once("run")

    assert (checked.returncode, ran.returncode) == (0, 0), checked.stderr + ran.stderr
    assert "waits for the broker" not in checked.stdout
    assert USERS["captiond"] not in checked.stdout + ran.stderr
    assert len(read_all(own.broker.bootstrap, "own-captions")) == WINDOWS_EACH


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"password": "guessed"},
            "clips.password_file: the broker refuses the password of user 'captiond', or does not know the user",
        ),
        ({"ca": "other"}, "sources.clips.ssl_cafile: the broker's certificate can't be trusted: "),
        (
            {"topic": "own-missing"},
            "sources.clips.topics: there is no topic 'own-missing', and captiond creates none",
        ),
        ({"topic": "others"}, "sources.clips.topics: the user has no right to read the topic 'others'"),
        (
            {"group": "others"},
            "sources.clips.group_id: the user has no rights on the consumer group 'others'",
        ),
        ({"output": "others"}, "sink.topic: the user has no right to write the topic 'others'"),
        ({"output": "own-missing"}, "sink.topic: there is no topic 'own-missing', and captiond creates none"),
    ],
    ids=["password", "certificate", "no topic", "topic's rights", "group's rights", "output's rights", "no output"],
)
def test_what_only_a_person_can_mend_ends_with_78_and_its_key(
    own: SecureBroker, tmp_path: Path, command: str, wrong: dict[str, str], sentence: str
) -> None:
    ended = secured(own, tmp_path, **wrong).once(command)

    assert ended.returncode == 78, ended.stderr
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert USERS["captiond"] not in ended.stdout + ended.stderr


def test_a_compacted_output_is_warned_of(bootstrap: str, make_topic: Callable[..., str], tmp_path: Path) -> None:
    topic, output = make_topic("clips"), make_topic("captions", **{"cleanup.policy": "compact"})
    make_topic("captions.rejected")

    checked = Daemon(tmp_path, {"clips": kafka_source(bootstrap, topic)}, kafka_sink(bootstrap, output)).once("check")

    assert checked.returncode == 0, checked.stderr
    assert f"# Topic {output} is compacted: of each key it keeps the last caption alone." in checked.stdout


def test_a_pattern_that_fits_nothing_is_said(bootstrap: str, name: str, tmp_path: Path) -> None:
    source = f"{{kind: kafka, bootstrap_servers: '{bootstrap}', topic_pattern: '{name}[.]none'}}"

    checked = Daemon(tmp_path, {"clips": source}, "{kind: folder, path: captions}").once("check")

    assert checked.returncode == 0, checked.stderr
    assert f"# Source clips: no topic is there whose name fits '{name}[.]none'." in checked.stdout


@pytest.mark.thorough
def test_a_broker_that_is_down_at_the_start_is_said_and_waited_for(own_broker: Broker, tmp_path: Path) -> None:
    own_broker.start()
    admin = KafkaAdminClient(bootstrap_servers=own_broker.bootstrap, request_timeout_ms=30_000)
    admin.create_topics([NewTopic(topic, 1, 1) for topic in ("in", "out", "out.rejected")])
    admin.wait_for_topics(["in", "out", "out.rejected"])
    admin.close()
    own_broker.stop()
    daemon = Daemon(
        tmp_path, {"clips": kafka_source(own_broker.bootstrap, "in")}, kafka_sink(own_broker.bootstrap, "out")
    )
    away = f"waits for the broker: {own_broker.bootstrap}: nothing listens at this port."
    checked = daemon.once("check")
    assert (checked.returncode, f"# Source clips {away}" in checked.stdout) == (0, True), checked.stderr
    assert f"# The sink {away}" in checked.stdout

    with daemon.running():
        daemon.wait_until(lambda: f"Source clips {away}" in daemon.log.read_text())
        daemon.wait_until(lambda: "Ready:" in daemon.log.read_text())
        own_broker.start()
        write_load_clip(tmp_path / "clip.mp4")
        produce(own_broker.bootstrap, "in", [(tmp_path / "clip.mp4").read_bytes()])
        daemon.wait_until(lambda: len(read_all(own_broker.bootstrap, "out")) == WINDOWS_EACH)
