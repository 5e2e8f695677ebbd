"""A backlog costs no more memory than the budget says, and nothing of it is lost."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testing.load import WINDOWS_EACH, write_load_clip
from testing.ports import free_port
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source, memory_files
from tests.kafka.deliveries import SLOW_DELIVERY
from tests.kafka.stand_in import make_route, produce, read_all, run_pipeline, seen, windows_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
MIB = 2**20
CLIP_BYTES, CLIPS, IN_FLIGHT_BYTES = 8 * MIB, 36, 256 * MIB


def padded(clip: bytes, size_bytes: int) -> bytes:
    """Return the clip with a box at its end that players pass over."""
    length = size_bytes - len(clip)
    return clip + length.to_bytes(4, "big") + b"free" + bytes(length - 8)


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had so far, without what it maps of memory files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def status(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status.json", timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@SLOW_DELIVERY
def test_clips_of_8_mb_stay_within_the_budget(
    bootstrap: str, make_topic: Callable[..., str], tmp_path: Path, delivery: str
) -> None:
    topic = make_topic("clips", partitions=3, **{"max.message.bytes": str(10 * MIB)})
    output = make_topic("captions")
    make_topic("captions.rejected")
    write_load_clip(tmp_path / "clip.mp4")
    value = padded((tmp_path / "clip.mp4").read_bytes(), CLIP_BYTES - 1000)
    for _ in range(CLIPS // 6):
        produce(bootstrap, topic, [value] * 6)
    port = free_port()
    daemon = Daemon(
        tmp_path,
        {"clips": kafka_source(bootstrap, topic)},
        kafka_sink(bootstrap, output),
        more=f"limits: {{in_flight_bytes: 256MiB}}\nhttp: {{listen: '127.0.0.1:{port}'}}\n",
        delivery=delivery,
        engine="{kind: fake, slots: 2, delay_ms: 30}",
    )
    held, kept = [0], [0]

    def done() -> bool:
        held.append(status(port)["in_flight_bytes"]["held"])
        kept.append(memory_files(process.pid))
        return len(seen(bootstrap, output)) == CLIPS * WINDOWS_EACH

    with daemon.running() as process:
        daemon.wait_until(lambda: "Ready:" in daemon.log.read_text())
        before = peak_bytes(process.pid)
        daemon.wait_until(done, 120)
        grown = peak_bytes(process.pid) - before

    assert sorted(windows_of(read_all(bootstrap, output)).values()) == [list(range(WINDOWS_EACH))] * CLIPS
    assert CLIP_BYTES < max(kept) <= IN_FLIGHT_BYTES // 4  # the values' share: eight clips at once
    assert 0 < max(held) <= IN_FLIGHT_BYTES
    assert max(kept) + grown <= IN_FLIGHT_BYTES, (max(kept), grown)


@pytest.mark.thorough
async def test_ten_thousand_small_clips(bootstrap: str, make_topic: Callable[..., str], tmp_path: Path) -> None:
    topic, output = make_topic("clips", partitions=4), make_topic("captions", partitions=4)
    make_topic("captions.rejected")
    produce(bootstrap, topic, [b"clip %d" % number for number in range(10_000)])
    route = make_route(bootstrap, topic, output, tmp_path, transactional=True, once=True)

    await run_pipeline(route, windows=2)
    await route.close()

    found = windows_of(read_all(bootstrap, output))
    assert len(found) == 10_000
    assert set(map(tuple, found.values())) == {(0, 1)}
