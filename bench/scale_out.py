"""Scale-out: one, two and four daemons in one consumer group, over a real broker.

Each has the fake engine with one slot of 50 ms a window, so that the engine is the limit as it is in earnest, and the
real sampler over clips of 64 x 64 pixels. The rate is what all of them together caption in a span in which every one of
them has partitions; their start is left out. Linear is the rate of one times their number.

    python -m bench.scale_out [seconds]
"""

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.harness.broker import make_topics, over_a_broker
from connectors.kafka.client.producer import KafkaProducer
from daemon.decoding.budgets import processor_s
from testing.load import WINDOWS_EACH, write_load_clip
from testing.ports import free_ports

COUNTS, SPAN_S, WANTED = (1, 2, 4), 30.0, 0.95
PARTITIONS, DELAY_MS = 8, 50
SETTLED_S = 6.0  # two heartbeats after the last member has captioned, the group is at rest
PATIENCE_S = 120.0


def fill(bootstrap: str, folder: Path, topic: str, windows: int) -> None:
    """Write clips that have ``windows`` windows together, the same number into each partition."""
    write_load_clip(folder / "clip.mp4")
    value = (folder / "clip.mp4").read_bytes()
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for number in range(windows // WINDOWS_EACH):
        producer.send(topic, value, partition=number % PARTITIONS)
    producer.flush(timeout=60)
    producer.close()


@contextmanager
def daemon(bootstrap: str, folder: Path, names: dict[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """One member of the group."""
    config = folder / f"{port}.yaml"
    config.write_text(
        f"sources:\n  clips: {{kind: kafka, bootstrap_servers: '{bootstrap}', topics: [{names['clips']}], "
        f"group_id: {names['clips']}}}\n"
        f"sink: {{kind: kafka, bootstrap_servers: '{bootstrap}', topic: {names['captions']}, "
        f"dead_letter_topic: {names['rejected']}}}\n"
        f"engine: {{kind: fake, slots: 1, delay_ms: {DELAY_MS}}}\nstate_dir: state-{port}\n"
        "windows: {window_s: 1.0}\nframes: {num_frames: 2}\n"
        f"http: {{listen: '127.0.0.1:{port}'}}\nlog: {{level: warning}}\n"
    )
    process = subprocess.Popen([sys.executable, "-m", "daemon", "run", "-c", str(config)])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(90)


def captioned(port: int) -> int:
    """Return how many windows a daemon has captioned; 0 while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status.json", timeout=5) as answer:
            return int(json.load(answer)["windows"]["captioned"])
    except OSError:
        return 0


def measure(bootstrap: str, count: int, span_s: float) -> tuple[float, float]:
    """Return windows a second of ``count`` daemons together, and the CPU time of all of them a window, in ms."""
    linear = count * 1000 / DELAY_MS
    names = make_topics(bootstrap, f"scale-out-{count}-{time.time_ns()}", PARTITIONS)
    with tempfile.TemporaryDirectory(prefix="captiond-scale-out-") as name, ExitStack() as stack:
        folder = Path(name)
        fill(bootstrap, folder, names["clips"], int(linear * (span_s + PATIENCE_S)))
        ports = free_ports(count)
        members = [stack.enter_context(daemon(bootstrap, folder, names, port)) for port in ports]
        began_s = time.monotonic()
        while not all(captioned(port) for port in ports):
            if time.monotonic() - began_s > PATIENCE_S / 2:
                raise RuntimeError("not every daemon got a partition")
            time.sleep(0.2)
        time.sleep(SETTLED_S)
        before, before_cpu_s, before_s = sum(map(captioned, ports)), _cpu_s(members), time.monotonic()
        time.sleep(span_s)
        after, after_cpu_s, after_s = sum(map(captioned, ports)), _cpu_s(members), time.monotonic()
    return (after - before) / (after_s - before_s), (after_cpu_s - before_cpu_s) / (after - before) * 1000


def _cpu_s(members: list[subprocess.Popen[bytes]]) -> float:
    """Return the CPU time of the daemons and their decoders so far."""
    return sum(processor_s(pid) for member in members for pid in (member.pid, *_children(member.pid)))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def measure_all(bootstrap: str, span_s: float) -> bool:
    """Measure each count and print its share of linear; False where one is below what is wanted."""
    print(f"One slot of {DELAY_MS} ms a window, clips of {WINDOWS_EACH} windows, {PARTITIONS} partitions.")
    held, alone = True, 0.0
    for count in COUNTS:
        per_s, cpu_ms = measure(bootstrap, count, span_s)
        alone = alone or per_s
        share = per_s / (alone * count)
        held &= share >= WANTED
        print(
            f"{count} daemon{'s' if count > 1 else ' '}: {per_s:6.1f} windows/s, {share:.3f} of linear "
            f"(at least {WANTED:g}), {cpu_ms:.1f} ms of CPU a window",
            flush=True,
        )
    return held


def main() -> int:
    """Measure, and say whether the daemons together are as fast as their number promises."""
    span_s = float(sys.argv[1]) if len(sys.argv) > 1 else SPAN_S
    return over_a_broker(partial(measure_all, span_s=span_s))


if __name__ == "__main__":
    sys.exit(main())
