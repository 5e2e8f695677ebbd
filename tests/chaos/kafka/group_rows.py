"""R1 to R4: members that come and go, answers that come too late, and members that are merely slow."""

import itertools
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from testing.load import WINDOWS_EACH
from tests.chaos.kafka.cluster import PARTITIONS
from tests.chaos.kafka.interceptors import read_journal
from tests.chaos.kafka.invariants import members_stay
from tests.chaos.kafka.load import FINISH_S, IN_FLIGHT, KafkaLoad, both_deliveries, side_by_side, wait_until
from tests.chaos.kafka.run_daemon import Options
from tests.chaos.kafka.stop_rows import STOP_S, ends_cleanly
from tests.chaos.table import Result

Process = subprocess.Popen[bytes]
Run = Callable[[int, Path, bool], Result]

STAY_S = 2.0  # of a member that comes and goes
HANDOVER_S = 20.0  # a start, and a round of the group in which each member has 4 s for its last commit
CLIPS_HELD = 16  # of R2: their keys lead to all partitions
SLOW_POLL_MS = 6000  # max_poll_interval_ms of R4
SLOW_CONSUMER = f"{{max_poll_interval_ms: {SLOW_POLL_MS}, session_timeout_ms: 5000, heartbeat_interval_ms: 1500}}"


def spread(run: Run, a_load: int, transactional: bool, faults: int, folder: Path) -> Result:
    """Strike ``faults`` times, ``a_load`` to a load, loads at once."""
    return side_by_side(
        [
            partial(run, min(left, a_load), folder / str(number), transactional)
            for number, left in enumerate(range(faults, 0, -a_load))
        ]
    )


def rebalanced(faults: int, folder: Path, transactional: bool) -> Result:
    """R1: a member joins and leaves every two seconds, each a rebalance, while another stays."""
    load = KafkaLoad(folder, transactional, delay_ms=1000.0)
    load.fill(40 + faults * 20)
    wrong = []
    with load.running() as steady:
        load.wait_for(steady, "published")
        for _ in range((faults + 1) // 2):
            with load.running() as guest:
                load.wait_for(guest, "assign")
                time.sleep(STAY_S)
                guest.terminate()
                wrong += ends_cleanly(load, guest, STOP_S, alone=False)
            time.sleep(STAY_S)
        steady.terminate()
        wrong += ends_cleanly(load, steady, STOP_S)
    wrong += load.finish()
    result = load.check(faults, repeats_allowed=faults * IN_FLIGHT * WINDOWS_EACH, alone=False, oracle=True)
    result.wrong += wrong
    if (generations := len(set(load.history().generations))) < faults:
        result.wrong.append(f"{load.topic}: {faults} rebalances were meant and {generations} happened")
    return result


def late(faults: int, folder: Path, transactional: bool) -> Result:
    """R2: a member is held up, half of its partitions are revoked, and only then its settlements come.

    A load is one fault. All its clips fit in flight, so something of each partition is held, whichever are revoked.
    """
    load = KafkaLoad(folder, transactional, delay_ms=1000.0, in_flight=CLIPS_HELD)
    load.fill(CLIPS_HELD)
    gate = load.folder / "gate"
    with ExitStack() as stack:
        held = stack.enter_context(load.running(Options(hold_until=str(gate))))
        wait_until(partial(_holds_all, load, held.pid), FINISH_S, "a clip of each partition held")
        other = stack.enter_context(load.running())
        load.wait_for(held, "revoke")
        load.wait_for(other, "published")
        gate.touch()
        load.wait_for(held, "published", PARTITIONS)
        for process in (held, other):
            process.terminate()
        wrong = [line for process in (held, other) for line in ends_cleanly(load, process, STOP_S, alone=False)]
    expected, counted = late_settlements(load, held.pid)
    if not expected:
        wrong.append(f"{load.topic}: nothing came late")
    if counted != expected:
        wrong.append(f"{load.topic}: {expected} settlements were late, and the daemon counted {counted}")
    wrong += load.finish()
    result = load.check(faults, repeats_allowed=CLIPS_HELD * WINDOWS_EACH, alone=False)
    result.wrong += wrong
    return result


def _holds_all(load: KafkaLoad, pid: int) -> bool:
    holds = [event for event in read_journal(load.journal) if event["pid"] == pid and event["event"] == "hold"]
    return len({place for hold in holds for place in hold["places"]}) == PARTITIONS


def late_settlements(load: KafkaLoad, pid: int) -> tuple[int, int]:
    """Return how many settlements, by the journal, came after the revoke, and how many the daemon counted."""
    revoked, expected, counted = set[str](), 0, 0
    for event in read_journal(load.journal):
        if event["pid"] != pid:
            continue
        if event["event"] == "revoke":
            revoked.update(event["places"])
        elif event["event"] == "publish":
            expected += event["places"][0] in revoked
        elif event["event"] == "late":
            counted = event["total"]
    return expected, counted


def never_answered(faults: int, folder: Path, transactional: bool) -> Result:
    """R3: a member whose sink never answers gives its partitions up in time, and commits nothing."""
    load = KafkaLoad(folder, transactional, drain_s=3.0)
    load.fill(faults * 80)
    wrong, slowest_s = [], 0.0
    for _ in range(faults):
        with ExitStack() as stack:
            deaf = stack.enter_context(load.running(Options(hold_until=str(load.folder / "never"))))
            load.wait_for(deaf, "hold")
            begun_s = time.monotonic()
            other = stack.enter_context(load.running(Options(overrides=("engine.delay_ms=1000",))))
            load.wait_for(other, "published")
            slowest_s = max(slowest_s, time.monotonic() - begun_s)
            commits = load.noted("commit", deaf.pid)
            deaf.terminate()
            wrong += ends_cleanly(load, deaf, STOP_S, alone=False)
            other.terminate()
            wrong += ends_cleanly(load, other, STOP_S)
            if commits:
                wrong.append(f"{load.topic}: a daemon whose sink never answered committed {commits} times")
    wrong += load.finish()
    result = load.check(faults, repeats_allowed=faults * IN_FLIGHT * WINDOWS_EACH, alone=False)
    result.add_recovery(slowest_s, HANDOVER_S, load.topic, "a handover")
    result.wrong += wrong
    return result


def slow(faults: int, folder: Path, transactional: bool) -> Result:
    """R4: clips take twice ``max_poll_interval_ms``, and the group does not move."""
    load = KafkaLoad(folder, transactional, delay_ms=2.0 * SLOW_POLL_MS, consumer=SLOW_CONSUMER, in_flight=1)
    load.fill(faults)
    wrong = []
    with load.running() as process:
        load.wait_for(process, "assign")
        before = load.history().generations[-1:]
        wait_until(partial(_all_ended, load, process.pid), FINISH_S, "the end of the clips")
        wrong += [f"{load.topic}: {line}" for line in members_stay([*before, *load.history().generations[-1:]])]
        process.terminate()
        wrong += ends_cleanly(load, process, STOP_S)
    result = load.check(faults)
    result.wrong += wrong
    return result


def _all_ended(load: KafkaLoad, pid: int) -> bool:
    events = read_journal(load.journal)
    ended = sum(event["event"] == "published" and event["last"] and event["pid"] == pid for event in events)
    return ended == len(load.expected)


ROWS = tuple(
    itertools.chain(
        both_deliveries("R1", "a member joins or leaves every 2 s", 100, 4, partial(spread, rebalanced, 10)),
        both_deliveries("R2", "settlements after the revoke", 50, 2, partial(spread, late, 1)),
        both_deliveries("R3", "revoke while the sink never answers", 20, 1, partial(spread, never_answered, 4)),
        both_deliveries("R4", "clips take twice max_poll_interval", 10, 1, partial(spread, slow, 2)),
    )
)
