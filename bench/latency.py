"""One clip at a time, from the moment it is produced until its caption can be read, with the daemon's defaults.

    python -m bench.latency [clips]

The clip has one window, the engine is the fake one, and everything else is the daemon as it ships. Beside it stands a
loop that consumes, produces and commits as plainly as the client allows, in the same run, clip by clip in turns.
"""

import sys
import tempfile
import threading
import time
import warnings
from functools import partial
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # how kafka-python reads its schemas
    from connectors.kafka.client.consumer import KafkaConsumer, OffsetAndMetadata, TopicPartition
    from connectors.kafka.client.producer import KafkaProducer

from bench.harness.broker import JOIN_MS, make_topics, over_a_broker
from bench.harness.daemon import daemon
from bench.harness.report import percentile, report
from testing.load import write_load_clip

CLIPS, QUIET_S, PATIENCE_S = 40, 0.25, 60.0
GOAL_MS = {"at_least_once": 12.0, "transactional": 35.0}


def write_config(path: Path, bootstrap: str, names: dict[str, str], delivery: str) -> None:
    """Write a configuration that names what has no default."""
    path.write_text(
        f"sources:\n  clips: {{kind: kafka, bootstrap_servers: '{bootstrap}', topics: [{names['clips']}], "
        f"group_id: latency-{time.time_ns()}}}\n"
        f"sink: {{kind: kafka, bootstrap_servers: '{bootstrap}', topic: {names['captions']}, "
        f"dead_letter_topic: {names['rejected']}}}\n"
        f"engine: {{kind: fake}}\ndelivery: {delivery}\nhttp: null\n"
    )


class Loop(threading.Thread):
    """The bare loop, in a thread of its own."""

    def __init__(self, bootstrap: str, names: dict[str, str], delivery: str) -> None:
        super().__init__(daemon=True)
        self.is_over, self._names, self._transactional = False, names, delivery == "transactional"
        group = f"loop-{time.time_ns()}"
        self._consumer = KafkaConsumer(
            names["clips"],
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        more = {"transactional_id": group} if self._transactional else {}
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, **more)

    def run(self) -> None:
        """Answer each clip as it comes."""
        if self._transactional:
            self._producer.init_transactions()
        wait_ms = JOIN_MS
        while not self.is_over:
            for partition, records in self._consumer.poll(timeout_ms=wait_ms).items():
                wait_ms = 100
                position = {partition: OffsetAndMetadata(records[-1].offset + 1, "", -1)}
                if self._transactional:
                    self._producer.begin_transaction()
                for record in records:
                    self._producer.send(self._names["captions"], b"a caption", record.key)
                if self._transactional:
                    self._producer.send_offsets_to_transaction(position, self._consumer.group_metadata())
                    self._producer.commit_transaction()
                else:
                    self._producer.flush()
                    self._consumer.commit(position)
        self._producer.close()
        self._consumer.close(autocommit=False)


class Asker:
    """Produces one clip and waits until its caption can be read."""

    def __init__(self, bootstrap: str, names: dict[str, str], value: bytes) -> None:
        self._names, self._value = names, value
        self._producer = KafkaProducer(bootstrap_servers=bootstrap)
        self._reader = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", group_id=None)
        partition = TopicPartition(names["captions"], 0)
        self._reader.assign([partition])
        self._reader.seek_to_beginning(partition)

    def ask(self) -> float:
        """Return how many milliseconds it took."""
        begun_s = time.monotonic()
        self._producer.send(self._names["clips"], self._value, b"%d" % time.time_ns())
        while time.monotonic() - begun_s < PATIENCE_S:
            if self._reader.poll(timeout_ms=200):
                return (time.monotonic() - begun_s) * 1000
        raise RuntimeError("no caption came")

    def ask_after(self, quiet_s: float) -> float:
        """Ask when nothing has moved for a while: what has just answered somebody else is quicker."""
        time.sleep(quiet_s)
        return self.ask()

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.close()
        self._reader.close()


def measure(bootstrap: str, delivery: str, clips: int) -> dict[str, float | str]:
    """Return the percentiles of the daemon's and the loop's latency."""
    ours_in, loops_in = (make_topics(bootstrap, f"latency-{time.time_ns()}", 1) for _ in range(2))
    with tempfile.TemporaryDirectory(prefix="captiond-latency-") as folder:
        write_load_clip(Path(folder) / "clip.mp4")
        value = (Path(folder) / "clip.mp4").read_bytes()
        config = Path(folder) / "config.yaml"
        write_config(config, bootstrap, ours_in, delivery)
        loop = Loop(bootstrap, loops_in, delivery)
        loop.start()
        ours, bare = Asker(bootstrap, ours_in, value), Asker(bootstrap, loops_in, value)
        with daemon(config):
            ours.ask(), bare.ask()  # the group is joined, and whoever is to be known is known
            took: list[tuple[float, float]] = []
            for _ in range(clips):
                took.append((ours.ask_after(QUIET_S), bare.ask_after(QUIET_S)))
        loop.is_over = True
        loop.join(30)
        ours.close()
        bare.close()
    mine, theirs = zip(*took, strict=True)
    row: dict[str, float | str] = {"delivery": delivery}
    row |= {"p50_ms": percentile(mine, 0.5), "p95_ms": percentile(mine, 0.95), "goal_p50_ms": GOAL_MS[delivery]}
    return row | {"loop_p50_ms": percentile(theirs, 0.5), "loop_p95_ms": percentile(theirs, 0.95)}


def measure_all(bootstrap: str, clips: int) -> bool:
    """Measure both deliveries; False where one is above its goal."""
    rows = [measure(bootstrap, delivery, clips) for delivery in GOAL_MS]
    report("latency", rows, x="delivery", ys=("p50_ms", "p95_ms", "loop_p50_ms"))
    return all(float(row["p50_ms"]) <= float(row["goal_p50_ms"]) for row in rows)


def main() -> int:
    """Measure, and say whether both are within their goals."""
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else CLIPS
    return over_a_broker(partial(measure_all, clips=clips))


if __name__ == "__main__":
    sys.exit(main())
