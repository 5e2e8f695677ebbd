"""B1: the broker restarts under load, cleanly and by SIGKILL."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from testing.load import WINDOWS_EACH
from tests.chaos.kafka.load import FINISH_S, IN_FLIGHT, KafkaLoad, both_deliveries, wait_until
from tests.chaos.kafka.stop_rows import STOP_S, ends_cleanly
from tests.chaos.table import Result

FAULTS_A_LOAD = 10
RECOVERY_S = 30.0
DOWN_S = 2.0  # between the end of a broker and its next start, which takes some seconds itself
REPEATS_A_FAULT = IN_FLIGHT * WINDOWS_EACH


def first_after(load: KafkaLoad, since_ms: int) -> int:
    """Wait for the first caption that the broker took after a time of the wall clock, and return its own, in ms."""
    found: list[int] = []

    def came() -> bool:
        found[:] = sorted(caption.at_ms for caption in load.captions() if caption.at_ms > since_ms)
        return bool(found)

    wait_until(came, FINISH_S, "a caption")
    return found[0]


@contextlib.contextmanager
def under_load(load: KafkaLoad, wrong: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a daemon that must live through the block and then stop cleanly; a last one finishes its load."""
    with load.running() as process:
        load.wait_for(process, "published")
        yield process
        if (code := process.poll()) is not None:
            wrong.append(f"{load.topic}: the daemon ended with {code}")
        process.terminate()
        wrong += ends_cleanly(load, process, STOP_S)
    wrong += load.finish()


def restarted(faults: int, folder: Path, transactional: bool) -> Result:
    """Stop or kill the broker, in turn, and start it again."""
    load = KafkaLoad(folder, transactional, delay_ms=1000.0)
    load.fill(40 + faults * 40)
    broker, wrong, slowest_s = load.cluster.broker, list[str](), 0.0
    with under_load(load, wrong):
        for number in range(faults):
            (broker.stop, broker.kill)[number % 2]()
            time.sleep(DOWN_S)
            broker.start()
            back_ms = time.time_ns() // 1_000_000
            slowest_s = max(slowest_s, (first_after(load, back_ms) - back_ms) / 1000)
    result = load.check(faults, repeats_allowed=faults * REPEATS_A_FAULT, alone=False)
    result.add_recovery(slowest_s, RECOVERY_S, load.topic)
    result.wrong += wrong
    return result


def b1(transactional: bool, faults: int, folder: Path) -> Result:
    """Restart after restart; no two loads at once, for a broker ends with the thread that started it."""
    total = Result()
    for number, left in enumerate(range(faults, 0, -FAULTS_A_LOAD)):
        total.add(restarted(min(left, FAULTS_A_LOAD), folder / str(number), transactional))
    return total


ROWS = both_deliveries("B1", "the broker restarts, stopped and killed in turn", 50, 2, b1, together=False)
