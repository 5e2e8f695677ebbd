"""One real Apache Kafka broker on loopback: KRaft, broker and controller in one process.

    python -m testing.kafka.broker [PORT]    starts one, prints its address and serves until Ctrl-C

Where the jars come from, in this order: ``KAFKA_HOME/libs``, ``../shared/kafka/libs`` beside the checkout, Maven with
this folder's ``pom.xml`` (kept in ``build/kafka-libs``).
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from testing.ports import free_ports
from testing.repository import ROOT

HERE = Path(__file__).resolve().parent
CLUSTER_ID = "Y2FwdGlvbmQtdGVzdHMtMQ"
START_DEADLINE_S = 240.0  # 5 s on two idle cores; one that is busy with ten other things takes minutes
STOP_DEADLINE_S = 30.0
HEAP = "-Xmx384m"
TRY_IT_TOPICS = ("clips", "captions", "captions.rejected")  # those of config/kafka.yaml

SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
    "auto.create.topics.enable": "false",  # as in production: a name typed wrong must not become a topic
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.retention.check.interval.ms": "3600000",
}

# what a folder holds that was just formatted, by the tool's arguments
_FORMATTED: dict[tuple[str, ...], dict[str, bytes]] = {}


def _die_with_parent() -> None:
    """Have the broker killed when the tests are: it is in a session of its own, so that Ctrl-C reaches them first."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class NoBroker(Exception):
    """There is no way to start a broker here; the message says what is missing."""


def find_jars() -> Path:
    """Return the folder that holds Kafka's jars, or say how to get one."""
    if shutil.which("java") is None:
        raise NoBroker("java is not installed")
    if home := os.environ.get("KAFKA_HOME"):
        if list((Path(home) / "libs").glob("kafka_*.jar")):
            return Path(home) / "libs"
        raise NoBroker("KAFKA_HOME holds no libs/kafka_*.jar")
    shared = ROOT.parent / "shared" / "kafka" / "libs"
    if list(shared.glob("kafka_*.jar")):
        return shared
    return _jars_from_maven()


def _jars_from_maven() -> Path:
    libs = ROOT / "build" / "kafka-libs"
    if list(libs.glob("kafka_*.jar")):
        return libs
    maven = shutil.which("mvn")
    if maven is None:
        raise NoBroker("neither KAFKA_HOME nor ../shared/kafka nor Maven is there")
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={libs}"]
    done = subprocess.run([maven, "-q", "-B", "-f", HERE / "pom.xml", *goal], capture_output=True, text=True)
    if done.returncode != 0:
        shutil.rmtree(libs, ignore_errors=True)
        raise NoBroker(f"Maven can't bring Kafka's jars: {done.stdout.strip()[-300:]}")
    return libs


class Broker:
    """One broker; its data outlives :meth:`kill` and :meth:`stop`, so :meth:`start` picks it up again."""

    def __init__(
        self, data: Path, *, port: int = 0, settings: Mapping[str, str] | None = None, format_args: Sequence[str] = ()
    ) -> None:
        self.data = data
        self.jars = find_jars()
        ports = free_ports(2)
        self.port = port or ports[0]
        self.controller_port = ports[1]
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._settings = dict(settings or {})
        self._format_args = list(format_args)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Broker":
        """Return when the broker serves."""
        self.data.mkdir(parents=True, exist_ok=True)
        properties = self._write_properties()
        if not (self.data / "log" / "meta.properties").exists():
            self._format(properties)
        said = self.data / "broker.log"
        before = said.stat().st_size if said.exists() else 0
        with said.open("ab") as out:
            command = [*self._java(), "kafka.Kafka", str(properties)]
            self._process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_die_with_parent
            )
        self._wait_until_it_serves(said, before)
        return self

    def _format(self, properties: Path) -> None:
        """Format the broker's folder as one was formatted before, if one was: Kafka's tool takes seconds each time."""
        log, like = self.data / "log", tuple(self._format_args)
        if (files := _FORMATTED.get(like)) is not None:
            log.mkdir(exist_ok=True)
            for name, content in files.items():
                (log / name).write_bytes(content)
            return
        command = [*self._java(), "kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID]
        done = subprocess.run([*command, "--config", properties, *self._format_args], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"the broker's folder can't be formatted: {done.stdout}{done.stderr}")
        _FORMATTED[like] = {file.name: file.read_bytes() for file in log.iterdir() if file.is_file()}

    def _wait_until_it_serves(self, said: Path, before: int) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            text = said.read_bytes()[before:]
            if b"Kafka Server started" in text:
                return
            if self._process is None or self._process.poll() is not None:
                break
            time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"the broker does not start: {said.read_text()[-2000:]}")

    def kill(self) -> None:
        """Crash the broker."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the broker cleanly."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop the broker's clock: connections stay open and nothing answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen broker go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def tool(self, name: str, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run one of Kafka's own tools (``consumer.ConsoleConsumer``, ...) and return what it prints."""
        return self.command(f"org.apache.kafka.tools.{name}", *arguments, timeout_s=timeout_s)

    def command(self, java_class: str, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run any class of Kafka's jars and return what it prints."""
        command = [*self._java(), java_class, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        if done.returncode != 0:
            raise RuntimeError(f"{java_class} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        return done.stdout

    def _java(self) -> list[str]:
        log4j = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
        return ["java", HEAP, "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true", log4j, "-cp", f"{self.jars}/*"]

    def _write_properties(self) -> Path:
        listeners = [f"PLAINTEXT://127.0.0.1:{self.port}", f"CONTROLLER://127.0.0.1:{self.controller_port}"]
        settings = SETTINGS | {
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": ",".join(listeners),
            "advertised.listeners": listeners[0],
            "log.dirs": str(self.data / "log"),
        }
        settings |= self._settings
        path = self.data / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return path


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9092
    with tempfile.TemporaryDirectory(prefix="captiond-kafka-") as folder:
        broker = Broker(Path(folder), port=port)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            broker.start()
            for topic in TRY_IT_TOPICS:
                broker.tool("TopicCommand", "--bootstrap-server", broker.bootstrap, "--create", "--topic", topic)
            print(f"Kafka serves at {broker.bootstrap}, with the topics {', '.join(TRY_IT_TOPICS)}, until Ctrl-C.")
            print(f"The tests run against it with KAFKA_BOOTSTRAP={broker.bootstrap}. Another topic is made with:")
            print(f"  java -cp '{broker.jars}/*' org.apache.kafka.tools.TopicCommand", end=" ")
            print(f"--bootstrap-server {broker.bootstrap} --create --topic NAME", flush=True)
            signal.pause()
        except KeyboardInterrupt:
            pass
        finally:
            broker.stop()


if __name__ == "__main__":
    try:
        main()
    except NoBroker as missing:
        sys.exit(f"No Kafka broker can be started: {missing}. Set KAFKA_HOME, or install Java and Maven.")
