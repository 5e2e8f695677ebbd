"""The daemon's memory, descriptors and threads over 100,000 windows from Kafka to Kafka with the fake engine.

    python -m bench.memory [windows]

The sampler is the one of bench.delivery, which decodes nothing: what decodes are other processes, and they are
replaced. All the rest is the daemon as it ships.
"""

import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # how kafka-python reads its schemas
    from connectors.kafka.client.consumer import KafkaConsumer

from bench._broker import make_topics, over_a_broker
from bench._daemon import daemon
from bench._report import report
from bench._unsampled import WINDOWS as WINDOWS_EACH
from bench.delivery import PARTITIONS, committed, fill

WINDOWS, STEPS, MOST_KIB, PATIENCE_S = 100_000, 10, 5 * 1024, 1800.0


def state_of(pid: int) -> dict[str, float | str]:
    """Return what a process holds now."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {
        "rss_kib": int(lines["VmRSS"].split()[0]),
        "descriptors": descriptors,
        "threads": int(lines["Threads"]),
    }


def measure(bootstrap: str, windows: int) -> bool:
    """Look at the daemon ten times on its way; False where its memory grows from the first look to the last."""
    names, group = make_topics(bootstrap, f"memory-{time.time_ns()}", PARTITIONS), f"memory-{time.time_ns()}"
    clips = windows // WINDOWS_EACH
    rows: list[dict[str, float | str]] = []
    with tempfile.TemporaryDirectory(prefix="captiond-memory-") as place:
        folder = Path(place)
        fill(bootstrap, folder, names["clips"], clips)
        config = folder / "config.yaml"
        config.write_text(
            f"sources:\n  clips: {{kind: kafka, bootstrap_servers: '{bootstrap}', topics: [{names['clips']}], "
            f"group_id: {group}}}\n"
            f"sink: {{kind: kafka, bootstrap_servers: '{bootstrap}', topic: {names['captions']}, "
            f"dead_letter_topic: {names['rejected']}}}\n"
            "engine: {kind: fake}\nwindows: {window_s: 1.0}\nframes: {num_frames: 2}\nhttp: null\n"
        )
        reader = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
        with daemon(config, "bench._unsampled") as process:
            until_s = time.monotonic() + PATIENCE_S
            for step in range(1, STEPS + 1):
                while committed(reader, names["clips"]) < clips * step // STEPS:
                    if process.poll() is not None or time.monotonic() > until_s:
                        raise RuntimeError(config.with_suffix(".log").read_text()[-2000:])
                    time.sleep(0.2)
                rows.append({"windows": windows * step // STEPS, **state_of(process.pid)})
        reader.close()
    report("memory", rows, x="windows", ys=("rss_kib",), kind="line")
    growth_kib = float(rows[-1]["rss_kib"]) - float(rows[0]["rss_kib"])
    print(f"From {rows[0]['windows']} to {rows[-1]['windows']} windows: {growth_kib:+.0f} KiB (at most {MOST_KIB}).")
    return growth_kib <= MOST_KIB


def main() -> int:
    """Measure, and say whether memory is flat."""
    windows = int(sys.argv[1]) if len(sys.argv) > 1 else WINDOWS
    return over_a_broker(partial(measure, windows=windows))


if __name__ == "__main__":
    sys.exit(main())
