"""Mistakes about a cluster are told apart and named, by the key that mends them."""

import gc
import os
import socket
import threading

import pytest

from connectors.errors import ConfigurationError
from connectors.kafka.client.admin import check_topics, open_admin
from connectors.kafka.client.errors import BrokerAway
from connectors.kafka.client.producer import open_producer
from connectors.kafka.probe import probe_connection
from connectors.kafka.settings import KafkaConnectionSettings, KafkaSinkSettings
from testing.kafka.secure_broker import USERS, SecureBroker
from testing.ports import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


def secured(secure: SecureBroker, **changes: object) -> KafkaConnectionSettings:
    given = {
        "bootstrap_servers": secure.bootstrap,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_username": "captiond",
        "password_file": secure.password_file(USERS["captiond"]),
        "ssl_cafile": secure.ca_file,
    }
    return KafkaConnectionSettings(**(given | changes))


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
def test_the_right_settings_reach_the_broker(secure: SecureBroker, mechanism: str) -> None:
    settings = secured(secure, sasl_mechanism=mechanism)

    assert probe_connection(settings, path="sink") == ""
    open_admin(settings).close()


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"password": "wrong"}, "sink.password_file", "refuses the password of user 'captiond'"),
        ({"sasl_username": "stranger"}, "sink.password_file", "does not know the user"),
        ({"sasl_mechanism": "PLAIN", "password": "wrong"}, "sink.password_file", "refuses the password"),
        ({"sasl_mechanism": "SCRAM-SHA-512"}, "sink.sasl_mechanism", "does not take SCRAM-SHA-512"),
        ({"ca": "other"}, "sink.ssl_cafile", "certificate can't be trusted"),
        ({"security_protocol": "SASL_PLAINTEXT", "ssl_cafile": None}, "sink.security_protocol", "speak SASL_PLAINTEXT"),
    ],
    ids=["password", "user", "plain password", "mechanism", "certificate", "plaintext to TLS"],
)
def test_what_only_a_person_can_mend_is_a_configuration_error(
    secure: SecureBroker, changes: dict[str, object], path: str, words: str
) -> None:
    if "password" in changes:
        changes = {"password_file": secure.password_file(str(changes["password"]))} | changes
    if changes.get("ca") == "other":
        changes = {"ssl_cafile": secure.other_ca_file} | changes
    settings = secured(secure, **{key: value for key, value in changes.items() if key not in ("password", "ca")})

    with pytest.raises(ConfigurationError, match=words) as refused:
        probe_connection(settings, path="sink")

    assert refused.value.path == path
    assert USERS["captiond"] not in str(refused.value)


def test_tls_to_a_listener_without_it_is_named(secure: SecureBroker) -> None:
    with pytest.raises(ConfigurationError, match="does not speak TLS"):
        probe_connection(secured(secure, bootstrap_servers=secure.broker.bootstrap), path="sink")


def test_user_names_for_a_listener_without_them_are_named(secure: SecureBroker) -> None:
    settings = secured(
        secure, bootstrap_servers=secure.broker.bootstrap, security_protocol="SASL_PLAINTEXT", ssl_cafile=None
    )

    with pytest.raises(ConfigurationError, match="takes no user names"):
        probe_connection(settings, path="sink")


def test_an_address_where_nothing_listens_is_waited_for_and_described() -> None:
    port = free_port()
    settings = KafkaConnectionSettings(bootstrap_servers=f"127.0.0.1:{port},no-such-host.invalid:9092")

    said = probe_connection(settings, path="sink")

    assert said.startswith(f"127.0.0.1:{port}: nothing listens at this port; no-such-host.invalid:9092: the name ")


def test_something_else_than_a_broker_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answer_like_a_web_server, args=(server,))
        thread.start()
        settings = KafkaConnectionSettings(bootstrap_servers=f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ConfigurationError, match="listener"):
            probe_connection(settings, path="sink")
        thread.join()


def _answer_like_a_web_server(server: socket.socket) -> None:
    channel, _ = server.accept()
    with channel:
        channel.recv(100)
        channel.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_client_that_reaches_nothing_leaves_no_thread_and_no_socket_behind() -> None:
    port = free_port()
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    settings = KafkaSinkSettings(bootstrap_servers=f"127.0.0.1:{port}")

    gc.disable()  # an outage of hours must not depend on when it comes round
    try:
        with pytest.raises(BrokerAway):
            open_producer(settings, client_id="test", path="sink")
        left = len(os.listdir("/proc/self/fd"))
    finally:
        gc.enable()

    assert threading.active_count() == threads
    assert left <= descriptors


def test_missing_and_forbidden_topics_are_told_apart(secure: SecureBroker) -> None:
    secure.make_topics("seen-in", "private")
    secure.allow("READ DESCRIBE", "TOPIC", "seen-", prefixed=True)
    settings = secured(secure)

    assert check_topics(settings, ["seen-in"], "READ", path="sources.a") == {"seen-in": 1}
    with pytest.raises(ConfigurationError, match="no right to write the topic 'seen-in'"):
        check_topics(settings, ["seen-in"], "WRITE", path="sink.topic")
    with pytest.raises(ConfigurationError, match="no right to read the topic 'private'"):
        check_topics(settings, ["seen-in", "private"], "READ", path="sources.a")
    with pytest.raises(ConfigurationError, match="there is no topic 'seen-missing'"):
        check_topics(settings, ["seen-missing"], "READ", path="sources.a")
