"""A probe of the connection: it tells apart what kafka-python only calls a failed bootstrap.

A wrong address, a wrong port, a certificate that nobody vouches for and a wrong password each get a sentence of their
own and the key that puts them right. What may pass by itself (nothing listens, a name that does not resolve) is only
described, because an outage is waited for.
"""

import socket
import ssl
import struct
from typing import Any

from connectors.errors import ConfigurationError
from connectors.kafka.client.connection import get_sasl_mechanism
from connectors.kafka.client.settings import connection_settings
from connectors.kafka.settings import KafkaConnectionSettings

PROBE_S = 5.0  # a broker in reach accepts and answers well within this, also while it is busy
_SASL_HANDSHAKE, _SASL_AUTHENTICATE, _API_VERSIONS = 17, 36, 18  # numbers of Kafka's requests
_UNSUPPORTED_MECHANISM = 33  # Kafka's error code
_MAX_ANSWER_BYTES = 2**20  # answers here take some hundred bytes; whatever sends more is no broker
_MAX_SASL_ROUNDS = 8  # SCRAM takes two


def probe_connection(settings: KafkaConnectionSettings, *, path: str) -> str:
    """Return why no broker can be reached now; :class:`ConfigurationError` where waiting can't help.

    Empty when a broker of the list accepts everything that the settings say.
    """
    reasons = []
    for server in settings.bootstrap_servers:
        reason = _probe_server(server, settings, path=path)
        if not reason:
            return ""
        reasons.append(f"{server}: {reason}")
    return "; ".join(reasons)


def _probe_server(server: str, settings: KafkaConnectionSettings, *, path: str) -> str:
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), timeout=PROBE_S) as plain:
            with _secured(plain, host, settings, path=path) as channel:
                if settings.sasl_mechanism is not None:
                    _authenticate(channel, host, settings, path=path)
                else:
                    _ask_versions(channel, settings, path=path)
            return ""
    except socket.gaierror:
        return f"the name {host} does not resolve"
    except TimeoutError:
        return "nothing answers in time"
    except ConnectionRefusedError:
        return "nothing listens at this port"
    except OSError as error:
        return error.strerror or str(error)


def _secured(plain: socket.socket, host: str, settings: KafkaConnectionSettings, *, path: str) -> socket.socket:
    """Return the socket, under TLS where the settings say so."""
    if not settings.security_protocol.endswith("SSL"):
        return plain
    given = connection_settings(settings, path=path)
    context = ssl.create_default_context(cafile=given.get("ssl_cafile"))
    if settings.ssl_certfile is not None:
        try:
            context.load_cert_chain(given["ssl_certfile"], given.get("ssl_keyfile"))
        except ssl.SSLError as error:
            raise ConfigurationError(f"the client's certificate can't be used: {error}", path=path) from error
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        message = f"the broker's certificate can't be trusted: {error.verify_message}; is ssl_cafile the right one?"
        raise ConfigurationError(message, path=f"{path}.ssl_cafile") from error
    except ssl.SSLError as error:
        if any(sign in str(error) for sign in ("WRONG_VERSION_NUMBER", "RECORD_LAYER", "UNEXPECTED_EOF")):
            message = f"{settings.security_protocol} is set and the broker's listener does not speak TLS"
            raise ConfigurationError(message, path=f"{path}.security_protocol") from error
        raise ConfigurationError(f"TLS with the broker fails: {error}", path=f"{path}.security_protocol") from error


def _ask_versions(channel: socket.socket, settings: KafkaConnectionSettings, *, path: str) -> None:
    """Ask what every broker answers before anyone has to prove who they are."""
    try:
        _exchange(channel, _API_VERSIONS, 0, b"")
    except TimeoutError:
        raise
    except OSError as error:
        message = f"the broker closes the connection: does its listener want more than {settings.security_protocol}?"
        raise ConfigurationError(message, path=f"{path}.security_protocol") from error


def _authenticate(channel: socket.socket, host: str, settings: KafkaConnectionSettings, *, path: str) -> None:
    """Prove who the user is, as Kafka's protocol has it; a refusal names the mechanism or the password."""
    mechanism = settings.sasl_mechanism or ""
    try:
        answer = _exchange(channel, _SASL_HANDSHAKE, 1, _string(mechanism))
    except TimeoutError:
        raise
    except OSError as error:
        message = f"the broker closes the connection: does its listener speak {settings.security_protocol}?"
        raise ConfigurationError(message, path=f"{path}.security_protocol") from error
    if struct.unpack_from(">h", answer)[0] == _UNSUPPORTED_MECHANISM:
        raise ConfigurationError(f"the broker does not take {mechanism}", path=f"{path}.sasl_mechanism")
    if struct.unpack_from(">h", answer)[0] != 0:
        message = f"{settings.security_protocol} is set and the broker's listener takes no user names"
        raise ConfigurationError(message, path=f"{path}.security_protocol")
    given = connection_settings(settings, path=path)
    proof: Any = get_sasl_mechanism(mechanism)(host=host, **given)
    refused = ConfigurationError(
        f"the broker refuses the password of user {settings.sasl_username!r}, or does not know the user",
        path=f"{path}.password_file",
    )
    for _ in range(_MAX_SASL_ROUNDS):
        if proof.is_done():
            break
        token = proof.auth_bytes()
        answer = _exchange(channel, _SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
        if struct.unpack_from(">h", answer)[0] != 0:
            raise refused
        message_length = max(struct.unpack_from(">h", answer, 2)[0], 0)
        (length,) = struct.unpack_from(">i", answer, 4 + message_length)
        proof.receive(answer[8 + message_length : 8 + message_length + max(length, 0)])
    if not proof.is_authenticated():
        raise refused


def _exchange(channel: socket.socket, api: int, version: int, body: bytes) -> bytes:
    """Send one request and return its answer without the header."""
    request = struct.pack(">hhi", api, version, 1) + _string("captiond-probe") + body
    channel.settimeout(PROBE_S)
    channel.sendall(struct.pack(">i", len(request)) + request)
    (length,) = struct.unpack(">i", _receive(channel, 4))
    if not 4 <= length <= _MAX_ANSWER_BYTES:
        raise OSError("what answers is no Kafka broker")
    return _receive(channel, length)[4:]


def _receive(channel: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        part = channel.recv(length - len(received))
        if not part:
            raise ConnectionResetError("the connection was closed")
        received += part
    return received


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">h", len(encoded)) + encoded
