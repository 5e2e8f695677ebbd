"""K1 and K2: kills, Kafka to Kafka. A load is struck by daemon after daemon until a last one may finish it.

Each kill is the machine's, which counts against no clip.
"""

import math
import random
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from testing.load import WINDOWS_EACH
from testing.power_cut import power_cut
from tests.chaos.kafka.interceptors import read_journal
from tests.chaos.kafka.load import FINISH_S, IN_FLIGHT, KafkaLoad, both_deliveries, side_by_side
from tests.chaos.kafka.run_daemon import Options
from tests.chaos.kill_points import EXIT_CODE, POINTS
from tests.chaos.table import Result

FAULTS_A_LOAD = 20
FAULTS_A_POINT = 10  # to one load: a daemon may get far before it passes its point, and a finished load can't be struck
CLIPS = 200
FEW_CLIPS = 32  # where a load is struck only a few times
SESSION_S, START_S = 10.0, 5.0  # I7 of K1: a dead member's session runs down; then a start and one round of the group
STARTS = 2.0  # where the load's first start, before any fault, took longer than half of START_S, the machine is busy
REPEATS_A_KILL = IN_FLIGHT * WINDOWS_EACH


def recoveries_s(load: KafkaLoad, lives: Sequence[tuple[int, int]]) -> list[float]:
    """Return how long after each kill the first new caption came, where the next daemon lived to write one.

    ``lives`` are the times of the kills before and at the end of each daemon's life, in ms of the wall clock.
    """
    times = sorted(caption.at_ms for caption in load.captions())
    firsts = [next((at for at in times if at > begun), end + 1) for begun, end in lives]
    return [(first - begun) / 1000 for (begun, end), first in zip(lives, firsts, strict=True) if first <= end]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _finish(load: KafkaLoad, struck: int, kills_ms: list[int], limit_s: float = math.inf) -> Result:
    """Let a last daemon finish, and check the load; Kafka's own consumer looks at those that were struck often."""
    wrong = load.finish()
    result = load.check(
        struck, repeats_allowed=struck * REPEATS_A_KILL * max(1, len(load.questions)), oracle=struck > 5
    )
    recovered = recoveries_s(load, list(zip(kills_ms, [*kills_ms[1:], _now_ms()], strict=True)))
    result.add_recovery(max(recovered, default=0.0), limit_s, load.topic)
    result.wrong += wrong
    return result


def killed_at(
    point: str, faults: int, folder: Path, transactional: bool, clips: int, questions: Sequence[str] = ()
) -> Result:
    """Strike one load at one named point, again and again; each window is asked so many questions."""
    load = KafkaLoad(folder, transactional, questions=questions)
    load.fill(clips)
    draw, kills_ms = random.Random(f"{point}/{faults}"), list[int]()
    begun_ns = time.monotonic_ns()
    for _ in range(faults):
        countdown = draw.randint(1, max(2, clips // 20))
        with load.running(Options(once=True, point=point, countdown=countdown)) as process:
            if process.wait(timeout=FINISH_S) == EXIT_CODE:
                kills_ms.append(_now_ms())
        power_cut(load.folder / "state")
    assigned_ns = next((one["at_ns"] for one in read_journal(load.journal) if one["event"] == "assign"), begun_ns)
    limit_s = SESSION_S + max(START_S, STARTS * (assigned_ns - begun_ns) / 1e9)
    result = _finish(load, len(kills_ms), kills_ms, limit_s)
    if not kills_ms:
        result.wrong.append(f"{point} was never passed: nothing was struck")
    return result


def killed_at_random(faults: int, seed: int, folder: Path, transactional: bool, clips: int) -> Result:
    """Strike one load with SIGKILL, up to 3 s after each daemon got its partitions."""
    load = KafkaLoad(folder, transactional, delay_ms=400.0)  # slow enough that the load outlasts its faults
    load.fill(clips)
    draw, kills_ms = random.Random(f"{seed}/{faults}"), list[int]()
    for _ in range(faults):
        with load.running() as process:
            load.wait_for(process, "assign")
            time.sleep(draw.uniform(0, 3))
            process.send_signal(signal.SIGKILL)
            if process.wait() == -signal.SIGKILL:
                kills_ms.append(_now_ms())
        power_cut(load.folder / "state")
    return _finish(load, len(kills_ms), kills_ms)


def k1(transactional: bool, faults: int, folder: Path) -> Result:
    """``faults`` kills at each of the twelve points, at most ten to a load."""
    return side_by_side(
        [
            partial(
                killed_at,
                point,
                many := min(left, FAULTS_A_POINT),
                folder / f"{point}-{number}",
                transactional,
                CLIPS if many > 5 else FEW_CLIPS,
            )
            for point in POINTS
            for number, left in enumerate(range(faults, 0, -FAULTS_A_POINT))
        ]
    )


def k8(transactional: bool, faults: int, folder: Path) -> Result:
    """``faults`` kills at each of the twelve points, with two questions a window."""
    asked = ("caption", "alert")
    return side_by_side(
        [partial(killed_at, point, faults, folder / point, transactional, FEW_CLIPS, asked) for point in POINTS]
    )


def k2(transactional: bool, faults: int, folder: Path) -> Result:
    """``faults`` kills at random times; few are spread over loads that run at once."""
    a_load = FAULTS_A_LOAD if faults > FAULTS_A_LOAD * 3 else max(2, faults // 4)
    return side_by_side(
        [
            partial(
                killed_at_random,
                many := min(left, a_load),
                number,
                folder / str(number),
                transactional,
                CLIPS if many > 5 else FEW_CLIPS * 2,
            )
            for number, left in enumerate(range(faults, 0, -a_load))
        ]
    )


ROWS = (
    *both_deliveries("K1", "kill -9 at each of 12 points", 20, 1, k1),
    *both_deliveries("K8", "kill -9 at each of 12 points, two questions a window", 2, 0, k8),
    *both_deliveries("K2", "kill -9 at random times", 200, 4, k2),
)
