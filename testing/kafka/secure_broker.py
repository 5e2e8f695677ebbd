"""A broker as a production cluster has it: TLS, SCRAM and PLAIN, and no rights but those that are given."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

from connectors.kafka.client.admin import KafkaAdminClient, NewTopic
from testing.kafka.broker import Broker
from testing.ports import free_port

STORE_PASSWORD = "store-password"  # noqa: S105 - of a broker that lives for one test session
USERS = {"captiond": "right-password", "nobody": "nobody-password", "reader": "reader-password"}


@dataclass(frozen=True)
class SecureBroker:
    """The broker, the address of its TLS listener, and the files that a client needs."""

    broker: Broker
    bootstrap: str
    ca_file: Path
    other_ca_file: Path
    folder: Path

    def password_file(self, password: str) -> Path:
        """Return a file that holds the password."""
        file = self.folder / f"password-{abs(hash(password))}"
        file.write_text(password + "\n")
        return file

    def login(self, user: str) -> dict[str, object]:
        """Return the keys of a configuration with which one of ``USERS`` comes in."""
        return {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-256",
            "sasl_username": user,
            "password_file": self.password_file(USERS[user]),
            "ssl_cafile": self.ca_file,
        }

    def make_topics(self, *names: str) -> None:
        """Make topics of one partition."""
        with self._admin() as admin:
            admin.create_topics([NewTopic(name, 1, 1) for name in names])
            admin.wait_for_topics(list(names))

    def allow(self, operations: str, kind: str, name: str, *, prefixed: bool = False) -> None:
        """Give ``captiond`` rights: ``allow("READ WRITE", "TOPIC", "clips")``, in Kafka's own names."""
        rules = _rules(operations, kind, name, prefixed)
        with self._admin() as admin:
            done = admin.create_acls(rules)
        assert not done["failed"], done

    def forbid(self, operations: str, kind: str, name: str) -> None:
        """Take rights away that were given with the same words."""
        rules = _rules(operations, kind, name, False)
        with self._admin() as admin:
            for rule, gone, error in admin.delete_acls(rules):
                assert gone, (rule, error)

    @contextmanager
    def _admin(self) -> Iterator[KafkaAdminClient]:
        """A client of the plain listener: Kafka's own tools would be a Java program for each call."""
        client = KafkaAdminClient(bootstrap_servers=self.broker.bootstrap, request_timeout_ms=30_000)
        try:
            yield client
        finally:
            client.close()


def _rules(operations: str, kind: str, name: str, prefixed: bool) -> list[ACL]:
    pattern = ACLResourcePatternType.PREFIXED if prefixed else ACLResourcePatternType.LITERAL
    resource = ResourcePattern(ResourceType[kind], name, pattern)
    return [
        ACL("User:captiond", "*", ACLOperation[operation], ACLPermissionType.ALLOW, resource)
        for operation in operations.split()
    ]


def start_secure_broker(folder: Path) -> SecureBroker:
    """Start one; ``captiond`` may do what it needs on topics and groups that begin with ``app-``."""
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "broker.p12"
    ca_file = _make_certificate(store, folder / "ca.pem")
    other = _make_certificate(folder / "other.p12", folder / "other-ca.pem")
    port = free_port()
    data = folder / "data"
    broker = Broker(data, settings=_settings(store), format_args=_scram_users())
    listeners = f"PLAINTEXT://127.0.0.1:{broker.port},SASL_SSL://127.0.0.1:{port}"
    broker._settings |= {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{broker.controller_port}",
        "advertised.listeners": listeners,
    }
    broker.start()
    return SecureBroker(broker, f"127.0.0.1:{port}", ca_file, other, folder)


def _settings(store: Path) -> dict[str, str]:
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    users = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
    plain = f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
    return {
        "ssl.keystore.location": str(store),
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.password": STORE_PASSWORD,
        "ssl.key.password": STORE_PASSWORD,
        "sasl.enabled.mechanisms": "SCRAM-SHA-256,PLAIN",
        "listener.name.sasl_ssl.sasl.enabled.mechanisms": "SCRAM-SHA-256,PLAIN",
        "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.sasl_ssl.plain.sasl.jaas.config": plain,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # who comes over the plain listener: the tests themselves
        "allow.everyone.if.no.acl.found": "false",
    }


def _scram_users() -> list[str]:
    arguments = []
    for name, password in USERS.items():
        arguments += ["--add-scram", f"SCRAM-SHA-256=[name={name},password={password}]"]
    return arguments


def _make_certificate(store: Path, pem: Path) -> Path:
    """Make a certificate for 127.0.0.1 that vouches for itself, and its PEM for clients."""
    keytool = shutil.which("keytool") or "keytool"
    common = ["-keystore", store, "-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-alias", "broker"]
    subject = ["-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1,dns:localhost", "-ext", "bc=ca:true"]
    key = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30"]
    subprocess.run([keytool, *key, *common, *subject], check=True, capture_output=True)
    subprocess.run([keytool, "-exportcert", "-rfc", *common, "-file", pem], check=True, capture_output=True)
    return pem
