"""B1 and B2: the broker restarts, or nothing answers for minutes."""

import contextlib
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.chaos.kafka_cluster import cluster
from tests.chaos.kafka_edges import read_journal
from tests.chaos.kafka_load import (
    BOTH_WAYS,
    FINISH_S,
    IN_FLIGHT,
    KafkaLoad,
    both_deliveries,
    side_by_side,
    wait_until,
)
from tests.chaos.kafka_stop_rows import STOP_S, ends_cleanly
from tests.chaos.load import WINDOWS_EACH
from tests.chaos.proxy import Proxy
from tests.chaos.table import Result
from tests.kafka.broker import free_ports

RECOVERY_S = 30.0
DOWN_S = 2.0  # between the end of a broker and its next start, which takes some seconds itself
OUTAGE_S = float(os.environ.get("OUTAGE_S", "600"))  # of B2; shorter for a first look
NOTICED_S = 30.0  # until `/readyz` says that the broker is away
MAX_SLOPE_MB_A_MIN = 1.0
REPEATS_A_FAULT = IN_FLIGHT * WINDOWS_EACH


def first_after(load: KafkaLoad, since_ms: int) -> int:
    """Wait for the first caption that the broker took after a time of the wall clock, and return its own."""
    found: list[int] = []

    def came() -> bool:
        found[:] = sorted(caption.at_ms for caption in load.captions() if caption.at_ms > since_ms)
        return bool(found)

    wait_until(came, FINISH_S, "a caption")
    return found[0]


def now_ms() -> int:
    """Return the wall clock, which the broker's times are of."""
    return time.time_ns() // 1_000_000


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
    """B1: the broker is stopped or killed under load, in turn, and started again."""
    load = KafkaLoad(folder, transactional, delay_ms=1000.0)
    load.fill(40 + faults * 40)
    broker, wrong, slowest_s = load.cluster.broker, list[str](), 0.0
    with under_load(load, wrong):
        for number in range(faults):
            (broker.stop, broker.kill)[number % 2]()
            time.sleep(DOWN_S)
            broker.start()
            back_ms = now_ms()
            slowest_s = max(slowest_s, (first_after(load, back_ms) - back_ms) / 1000)
    result = load.check(faults, repeats_allowed=faults * REPEATS_A_FAULT, alone=False)
    return recovered(result, slowest_s, wrong)


def recovered(result: Result, slowest_s: float, wrong: Sequence[str]) -> Result:
    """Add the slowest recovery, which has a limit, and what else was wrong."""
    result.slowest_recovery_s = slowest_s
    result.wrong += [*wrong, *([f"a recovery took {slowest_s:.1f} s"] if slowest_s > RECOVERY_S else [])]
    return result


def b1(transactional: bool, faults: int, folder: Path) -> Result:
    """Restart after restart, ten to a load; no two loads at once, for a broker ends with the thread that started it."""
    total = Result()
    for number, left in enumerate(range(faults, 0, -10)):
        total.add(restarted(min(left, 10), folder / str(number), transactional))
    return total


def readyz(port: int) -> int:
    """Return what a daemon answers; 0 where it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


def resident_mb(pid: int) -> float:
    """Return the memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def in_flight_bounded(load: KafkaLoad) -> list[str]:
    """P2: return what is wrong with how many clips a daemon took and had not finished."""
    most, now = 0, dict[int, int]()
    for event in read_journal(load.journal):
        change = {"receive": 1, "published": -1 if event.get("last") else 0}.get(event["event"], 0)
        now[event["pid"]] = now.get(event["pid"], 0) + change
        most = max(most, now[event["pid"]])
    # a delivery that waits for a slot has been received too
    return [f"{load.topic}: {most} clips were in flight"] if most > load.in_flight + 1 else []


def watched_memory(process: "subprocess.Popen[bytes]", for_s: float) -> list[str]:
    """I6: wait, and return what is wrong with how a daemon's memory grew in the second half."""
    time.sleep(for_s / 2)
    before_mb = resident_mb(process.pid)
    time.sleep(for_s / 2)
    grown_mb = resident_mb(process.pid) - before_mb
    slope = grown_mb / (for_s / 120)
    # a page more or less is no slope over less than some minutes
    return [f"memory grew {slope:.1f} MB a minute"] if grown_mb > 4 and slope > MAX_SLOPE_MB_A_MIN else []


class Outage:
    """One outage behind the proxy, gone through by several loads at once."""

    def __init__(self, proxy: Proxy, loads: int, lasts_s: float, *, held: frozenset[int] | None = None) -> None:
        self.lasts_s = lasts_s
        self._proxy, self._held = proxy, held
        self._together = threading.Barrier(loads)

    def begin(self) -> None:
        """Wait for the others; from then on nothing is answered, or nothing of the kinds in ``held``."""
        self._together.wait(FINISH_S)
        if self._held is None:
            self._proxy.is_deaf = True
        else:
            self._proxy.held = self._held

    def end(self) -> int:
        """Wait for the others; from then on all is answered. Returns the wall clock of that, in ms."""
        self._together.wait(FINISH_S)
        self._proxy.is_deaf, self._proxy.held = False, frozenset()
        return now_ms()


def away(folder: Path, transactional: bool, proxied: frozenset[str], outage: Outage) -> Result:
    """Go through an outage: the daemon says so, waits without a change in its group, and goes on."""
    (port,) = free_ports(1)
    load = KafkaLoad(folder, transactional, delay_ms=1000.0, proxied=proxied, http_port=port)
    load.fill(120)
    wrong = list[str]()
    with under_load(load, wrong) as process:
        outage.begin()
        begun_s = time.monotonic()
        wait_until(lambda: readyz(port) == 503, NOTICED_S, "the word of an outage")
        wrong += watched_memory(process, max(outage.lasts_s - (time.monotonic() - begun_s), 1))
        if (says := readyz(port)) != 503:
            wrong.append(f"/readyz says {says} while the broker is away")
        back_ms = outage.end()
        recovery_s = (first_after(load, back_ms) - back_ms) / 1000
        wait_until(lambda: readyz(port) == 200, RECOVERY_S, "the word of the outage's end")
    wrong += in_flight_bounded(load)
    result = load.check(1, repeats_allowed=REPEATS_A_FAULT, alone=False)
    return recovered(result, recovery_s, wrong)


def b2(transactional: bool, faults: int, folder: Path) -> Result:
    """B2: one outage of ten minutes, gone through by ``faults`` daemons of as many groups."""
    made = cluster()
    with Proxy(made.proxy_port, made.hidden_port) as proxy:
        outage = Outage(proxy, faults, OUTAGE_S)
        loads = [partial(away, folder / str(number), transactional, BOTH_WAYS, outage) for number in range(faults)]
        return side_by_side(loads, at_once=faults)


ROWS = (
    *both_deliveries("B1", "the broker restarts, stopped and killed in turn", 50, 2, b1),
    *both_deliveries("B2", f"nothing answers for {OUTAGE_S:.0f} s", 3, 0, b2),
)
