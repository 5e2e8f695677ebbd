"""The cost of delivery: 10,000 small clips of six windows, Kafka to Kafka over a real broker.

The daemon runs as it ships, with a sampler and an engine that take no time, beside a bare kafka-python loop over the
same topics: consume, produce six records of the same size, commit at the same interval. Both start in a group without
a position; half of the loop runs before the daemon's turn and half after. The daemon's CPU time is that of its
process, user and system, from the moment that its model answers to its end.

    python -m bench.delivery [clips]
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # how kafka-python reads its schemas
    from connectors.kafka.client.consumer import KafkaConsumer, OffsetAndMetadata, TopicPartition
    from connectors.kafka.client.producer import KafkaProducer

from bench.harness.broker import JOIN_MS, make_topics, over_a_broker
from bench.harness.daemon import wait_ready
from bench.harness.unsampled import WINDOWS
from connectors.kafka.client.settings import BATCH_BYTES
from daemon.decoding.budgets import processor_s
from testing.load import write_load_clip

CLIPS, PARTITIONS, COMMIT_INTERVAL_S = 10_000, 4, 0.1
MOST_CPU_MS = {"at_least_once": 0.5, "transactional": 0.7}
PATIENCE_S = 400.0
CAPTION_BYTES = 1200  # of a caption's message and headers, as captiond writes them here


@dataclass(frozen=True)
class Cost:
    """What one way of delivery took for all windows."""

    windows: int
    wall_s: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Windows a second."""
        return self.windows / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """CPU time a window."""
        return self.cpu_s / self.windows * 1000


def fill(bootstrap: str, folder: Path, topic: str, clips: int) -> None:
    """Write the clips."""
    write_load_clip(folder / "clip.mp4", WINDOWS)
    value = (folder / "clip.mp4").read_bytes()
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for number in range(clips):
        producer.send(topic, value, key=b"%d" % number)
    producer.flush(timeout=60)
    producer.close()


def committed(reader: KafkaConsumer, topic: str) -> int:
    """Return how many clips the reader's group has finished."""
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    return sum(reader.committed(partition) or 0 for partition in partitions)


def run_daemon(bootstrap: str, folder: Path, delivery: str, names: dict[str, str], clips: int) -> Cost:
    """Let the daemon caption all clips of the topic and return what it took."""
    config = folder / f"{delivery}.yaml"
    group = f"captiond-{delivery}-{time.time_ns()}"
    config.write_text(
        f"sources:\n  clips: {{kind: kafka, bootstrap_servers: '{bootstrap}', topics: [{names['clips']}], "
        f"group_id: {group}}}\n"
        f"sink: {{kind: kafka, bootstrap_servers: '{bootstrap}', topic: {names['captions']}, "
        f"dead_letter_topic: {names['rejected']}}}\n"
        f"engine: {{kind: fake}}\ndelivery: {delivery}\ncommit_interval_ms: {int(COMMIT_INTERVAL_S * 1000)}\n"
        "windows: {window_s: 1.0}\nframes: {num_frames: 2}\nhttp: null\nlog: {level: info}\n"
    )
    log = folder / f"{delivery}.log"
    reader = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", "bench.harness.unsampled", str(config)], stderr=out)
    try:
        wait_ready(process, log)
        ready_s, before_s = time.monotonic(), processor_s(process.pid)
        while committed(reader, names["clips"]) < clips:
            if process.poll() is not None or time.monotonic() - ready_s > PATIENCE_S:
                raise RuntimeError(f"the daemon does not get there: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        wall_s = time.monotonic() - ready_s
        process.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, log.read_text()[-2000:]
        return Cost(clips * WINDOWS, wall_s, usage.ru_utime + usage.ru_stime - before_s)
    finally:
        if process.returncode is None:
            process.kill()
        reader.close()


def check_whole(bootstrap: str, topic: str, clips: int) -> None:
    """Look that the daemon wrote each window of each clip once."""
    reader = KafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest", group_id=None
    )
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    reader.assign(partitions)
    ends, ids = reader.end_offsets(partitions), Counter[bytes]()
    while any(reader.position(partition) < ends[partition] for partition in partitions):
        for records in reader.poll(timeout_ms=200, max_records=5000).values():
            ids.update(dict(record.headers)["ce_id"] for record in records)
    reader.close()
    del ids[_LOOPS_ID]
    assert (len(ids), ids.total()) == (clips * WINDOWS,) * 2, (len(ids), ids.total())


def run_loop(bootstrap: str, delivery: str, names: dict[str, str], clips: int) -> Cost:
    """Consume, produce and commit as plainly as the client allows; captiond's settings, nothing of captiond."""
    transactional = delivery == "transactional"
    group = f"loop-{delivery}-{time.time_ns()}"
    consumer = KafkaConsumer(
        names["clips"],
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
        metrics_enabled=False,
    )
    more = {"transactional_id": group, "transaction_timeout_ms": 15_000} if transactional else {}
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        compression_type="gzip",
        batch_size=BATCH_BYTES,
        delivery_timeout_ms=10_000,
        request_timeout_ms=8_000,
        metrics_enabled=False,
        **more,
    )
    if transactional:
        producer.init_transactions()
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    _consume_produce_commit(consumer, producer, names["captions"], clips, transactional=transactional)
    cost = Cost(clips * WINDOWS, time.monotonic() - began_s, time.process_time() - began_cpu_s)
    producer.close()
    consumer.close(autocommit=False)
    return cost


def _consume_produce_commit(
    consumer: KafkaConsumer, producer: KafkaProducer, topic: str, clips: int, *, transactional: bool
) -> None:
    done, positions, commit_at_s = 0, dict[TopicPartition, OffsetAndMetadata](), 0.0
    while done < clips or positions:
        polled = consumer.poll(timeout_ms=100 if done else JOIN_MS)
        for partition, records in polled.items():
            if transactional and not positions:
                producer.begin_transaction()
            for record in records[: clips - done]:
                for window in range(WINDOWS):
                    producer.send(topic, _message(record.offset, window), record.key, _HEADERS)
                positions[partition] = OffsetAndMetadata(record.offset + 1, "", -1)
                done += 1
        if not positions or (time.monotonic() < commit_at_s and done < clips):
            continue
        if transactional:
            producer.send_offsets_to_transaction(positions, consumer.group_metadata())
            producer.commit_transaction()
        else:
            producer.flush()
            consumer.commit(positions)
        positions, commit_at_s = {}, time.monotonic() + COMMIT_INTERVAL_S


_LOOPS_ID = b"0123456789abcdef" * 4
_HEADERS = [
    ("ce_specversion", b"1.0"),
    ("ce_id", _LOOPS_ID),
    ("ce_type", b"captiond.caption.v1"),
    ("ce_source", b"/captiond/clips"),
    ("ce_subject", b"delivery.clips/0/1234"),
    ("ce_time", b"2026-01-01T00:00:00.000Z"),
    ("content-type", b"application/json"),
]
_FILL = "".join(f"{n * 2654435761 % 2**32:08x}" for n in range(CAPTION_BYTES // 16))


def _message(offset: int, window: int) -> bytes:
    return b'{"clip": %d, "window": %d, "text": "%s"}' % (offset, window, _FILL.encode())


def measure(bootstrap: str, delivery: str, clips: int) -> tuple[Cost, Cost]:
    """Return the daemon's cost and the loop's."""
    names = make_topics(bootstrap, f"delivery-{time.time_ns()}", PARTITIONS)
    with tempfile.TemporaryDirectory(prefix="captiond-delivery-") as folder:
        fill(bootstrap, Path(folder), names["clips"], clips)
        before = run_loop(bootstrap, delivery, names, clips // 2)
        ours = run_daemon(bootstrap, Path(folder), delivery, names, clips)
        check_whole(bootstrap, names["captions"], clips)
        after = run_loop(bootstrap, delivery, names, clips - clips // 2)
    return ours, Cost(ours.windows, before.wall_s + after.wall_s, before.cpu_s + after.cpu_s)


def measure_all(bootstrap: str, clips: int) -> bool:
    """Measure both deliveries and print them; False where a window costs more than it may."""
    print(f"{clips} clips of {WINDOWS} windows, {PARTITIONS} partitions, a commit each {COMMIT_INTERVAL_S:g} s.")
    print(f"{'':<14} {'captiond':>12} {'bare loop':>12} {'ratio':>6} {'CPU a window':>14} {'of the loop':>12}")
    held = True
    for delivery, most_ms in MOST_CPU_MS.items():
        ours, loop = measure(bootstrap, delivery, clips)
        held &= ours.cpu_ms <= most_ms
        print(
            f"{delivery:<14} {ours.per_s:>10.0f}/s {loop.per_s:>10.0f}/s {ours.per_s / loop.per_s:>6.2f} "
            f"{ours.cpu_ms:>11.3f} ms {loop.cpu_ms:>9.3f} ms (at most {most_ms:g} ms)",
            flush=True,
        )
    return held


def main() -> int:
    """Measure, and say whether every cost is within its bound."""
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else CLIPS
    return over_a_broker(partial(measure_all, clips=clips))


if __name__ == "__main__":
    sys.exit(main())
