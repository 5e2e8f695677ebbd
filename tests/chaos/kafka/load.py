"""A load between Kafka topics: its clips, its configuration, its daemons, and what its end is checked against."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from connectors.kafka.client.producer import KafkaProducer
from testing.load import WINDOWS_EACH, write_load_clip
from testing.repository import ROOT
from tests.chaos.kafka import invariants as promises
from tests.chaos.kafka.cluster import Cluster, cluster
from tests.chaos.kafka.evidence import (
    GroupHistory,
    Written,
    console_consumer_values,
    read_captions,
    read_group,
    read_letters,
    read_records,
)
from tests.chaos.kafka.interceptors import read_journal
from tests.chaos.kafka.invariants import Expected
from tests.chaos.kafka.run_daemon import Options
from tests.chaos.table import Result, Row

FINISH_S = 300.0
IN_FLIGHT = 8  # limits.max_clips_in_flight of every load
SLOTS = 20  # windows in the engine
DRAIN_S = 60.0
SIDE_BY_SIDE = 6  # loads at once: most of a kill's time is the dead member's session running down


@cache
def clip_bytes() -> bytes:
    """Return the clip that loads are made of."""
    with TemporaryDirectory() as folder:
        write_load_clip(Path(folder) / "clip.mp4")
        return (Path(folder) / "clip.mp4").read_bytes()


@dataclass(frozen=True)
class Message:
    """A record to be sent, and what becomes of it: so many captions, and with ``reason`` a rejection."""

    value: bytes
    windows: int = WINDOWS_EACH
    reason: str | None = None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    clip_id: str = ""  # where the headers give one


@dataclass
class KafkaLoad:
    """Clips in a topic of their own, and the daemons that caption them into another.

    ``proxied`` says that source and sink come in through the proxy.
    """

    folder: Path
    transactional: bool
    delay_ms: float = 50.0
    proxied: bool = False
    in_flight: int = IN_FLIGHT
    script: str | None = None
    consumer: str = "{}"
    http_port: int | None = None
    drain_s: float = DRAIN_S
    output_settings: dict[str, str] = field(default_factory=dict)
    questions: Sequence[str] = ()
    cluster: Cluster = field(default_factory=cluster)
    expected: list[Expected] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.topic = self.cluster.make_topics(output_settings=self.output_settings)
        self.output, self.rejected = f"{self.topic}.captions", f"{self.topic}.rejected"
        self.journal, self.log = self.folder / "journal.jsonl", self.folder / "daemon.log"
        self.config = self._write_config()

    def _write_config(self) -> Path:
        servers = self.cluster.proxied if self.proxied else self.cluster.bootstrap
        script = f", script: {self.script}" if self.script else ""
        http = "null" if self.http_port is None else f'{{listen: "127.0.0.1:{self.http_port}"}}'
        asked = ", ".join(f"{name}: {{text: 'What of {name}?'}}" for name in self.questions)
        config = self.folder / "captiond.yaml"
        config.write_text(
            f"sources:\n  load: {{kind: kafka, bootstrap_servers: '{servers}', topics: [{self.topic}],"
            f" group_id: {self.topic}, consumer: {self.consumer}}}\n"
            f"sink: {{kind: kafka, bootstrap_servers: '{servers}', topic: {self.output},"
            f" dead_letter_topic: {self.rejected}}}\n"
            f"delivery: {'transactional' if self.transactional else 'at_least_once'}\n"
            "windows: {window_s: 1.0, stride_s: 1.0, min_tail_s: 0.5}\nframes: {num_frames: 2}\n"
            f"engine: {{kind: fake, delay_ms: {self.delay_ms}, slots: {SLOTS}{script}}}\n"
            f"limits: {{max_clips_in_flight: {self.in_flight}}}\n"
            f"prompts: {{{asked}}}\n"
            f"timeouts: {{drain_s: {self.drain_s}}}\nstate_dir: state\nhttp: {http}\nlog: {{level: info}}\n"
        )
        return config

    def fill(self, clips: int) -> None:
        """Write clips to the topic and expect all their windows."""
        self.send([Message(clip_bytes())] * clips)

    def send(self, messages: Sequence["Message"]) -> None:
        """Write messages to the topic, and expect of each what it says."""
        producer = KafkaProducer(bootstrap_servers=self.cluster.bootstrap, max_request_size=20 * 2**20)
        for number, message in enumerate(messages):
            producer.send(self.topic, message.value, b"%d" % number, list(message.headers.items()))
        producer.flush(timeout=FINISH_S)
        producer.close()
        for record in read_records(self.cluster, self.topic):
            message = messages[int(record.key)]
            place = (record.topic, record.partition, record.offset)
            self.expected.append(Expected(*place, message.windows, message.reason, message.clip_id))
        if len(self.expected) != len(messages):
            raise RuntimeError(f"{len(self.expected)} of {len(messages)} messages arrived")

    def start(self, options: Options | None = None) -> "subprocess.Popen[bytes]":
        """Start a daemon of the load's group."""
        arguments = [str(self.config), str(self.journal), (options or Options()).to_json()]
        command = [sys.executable, "-m", "tests.chaos.kafka.run_daemon", *arguments]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ})

    @contextlib.contextmanager
    def running(self, options: Options | None = None) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a daemon beside a row; whatever happens it does not outlive it."""
        process = self.start(options)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def finish(self) -> list[str]:
        """Let a last daemon finish the load; return what is wrong with how it ended."""
        with self.running(Options(once=True, overrides=("engine.delay_ms=0",))) as last:
            try:
                code = last.wait(timeout=FINISH_S)
            except subprocess.TimeoutExpired:
                last.send_signal(signal.SIGUSR1)
                time.sleep(1)  # for its stacks to be in its log
                return [f"{self.topic}: the last daemon did not finish within {FINISH_S:.0f} s: {self.log}"]
        return [] if code == 0 else [f"{self.topic}: the last daemon exited with {code}"]

    def noted(self, event: str, pid: int) -> int:
        """Count what a daemon noted so far."""
        return sum(noted["event"] == event and noted["pid"] == pid for noted in read_journal(self.journal))

    def wait_for(self, process: "subprocess.Popen[bytes]", event: str, count: int = 1) -> None:
        """Wait until a daemon noted something so often."""

        def noted() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{self.topic}: the daemon ended with {process.returncode} before {event!r}")
            return self.noted(event, process.pid) >= count

        wait_until(noted, FINISH_S, f"{event!r}")

    def check(self, faults: int, *, repeats_allowed: int = 0, alone: bool = True, oracle: bool = False) -> Result:
        """Check the promises at the load's end.

        ``repeats_allowed`` bounds captions that come twice; none do for a reader of transactions. ``alone`` says that
        no two daemons ran at once, so what was committed is never written again.
        """
        captions, letters = read_captions(self.cluster, self.output), read_letters(self.cluster, self.rejected)
        answers = [[one for one in captions if one.prompt == asked] for asked in self.questions or (None,)]
        found = promises.nothing_is_lost(self.expected, answers[0], letters)
        for others in answers[1:]:  # each question is answered about every window
            other = promises.nothing_is_lost(self.expected, others, letters)
            found.lost, found.repeats = found.lost + other.lost, [*found.repeats, *other.repeats]
            found.wrong += other.wrong
        durable = promises.Durable(self.expected, self.history().commits)
        wrong = [*found.wrong, *durable.wrong, *promises.windows_are_in_order(captions)]
        if len(captions) > sum(len(mine) for mine in answers):
            wrong.append("answers to questions that nobody asked")
        wrong += [f"{name} is not committed as finished" for name in durable.unfinished()]
        wrong += promises.nothing_is_committed_after_a_revoke(read_journal(self.journal))
        if self.transactional:
            wrong += [f"{one.caption_id} came twice" for one in found.repeats]
        else:
            wrong += [late for mine in answers for late in promises.output_comes_before_its_position(mine, durable)]
            wrong += promises.repeats_were_not_durable(found.repeats, durable) if alone else []
        if oracle:
            ours = [record.value.decode() for record in read_records(self.cluster, self.output)]
            wrong += promises.oracle_agrees(ours, console_consumer_values(self.cluster, self.output))
        wrong = [f"{self.topic}: {line}" for line in wrong]
        allowed = 0 if self.transactional else repeats_allowed
        return Result(faults, found.windows, found.lost, len(found.repeats), 0.0, wrong, allowed)

    def history(self) -> GroupHistory:
        """Return the commits and generations of the load's group."""
        return read_group(self.cluster, self.topic)

    def captions(self) -> list[Written]:
        """Return the captions so far."""
        return read_captions(self.cluster, self.output)


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for something that another process does; :class:`TimeoutError` names it."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{what} did not happen within {timeout_s:.0f} s")
        time.sleep(0.05)


def side_by_side(loads: Sequence[Callable[[], Result]], at_once: int = SIDE_BY_SIDE) -> Result:
    """Run loads at once and sum what they found; one that breaks off is wrong and does not stop the others."""
    total = Result()
    with ThreadPoolExecutor(at_once) as pool:
        for result in pool.map(_caught, loads):
            total.add(result)
    return total


def _caught(load: Callable[[], Result]) -> Result:
    try:
        return load()
    except Exception as error:
        return Result(wrong=[f"a load broke off: {type(error).__name__}: {error}"])


def both_deliveries(
    name: str, fault: str, full: int, quick: int, run: Callable[[bool, int, Path], Result], *, together: bool = True
) -> tuple[Row, ...]:
    """Return a row for each kind of delivery, to be run at once; ``run`` is told whether it is transactional."""
    return tuple(
        Row(f"{name} kafka {delivery}", fault, full, quick, partial(run, transactional), name if together else "")
        for delivery, transactional in (("at_least_once", False), ("transactional", True))
    )
