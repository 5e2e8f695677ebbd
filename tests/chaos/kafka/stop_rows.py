"""K3 to K5: daemons that are asked to stop, at good times and bad ones, and one that was frozen and comes back."""

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from testing.load import WINDOWS_EACH
from tests.chaos.kafka.interceptors import read_journal
from tests.chaos.kafka.load import FINISH_S, IN_FLIGHT, KafkaLoad, both_deliveries, side_by_side, wait_until
from tests.chaos.kafka.proxy import Proxy
from tests.chaos.kafka.run_daemon import Options
from tests.chaos.table import Result, Row

FAULTS_A_LOAD = 20
CLIPS_A_STOP = 12  # what a daemon captions between two stops, and a little more
STOP_S = 60.0
BAD_STOP_S = 90.0
SHORT_DRAIN_S = 10.0
FROZEN_S = 60.0  # several times the 10 s after which the group takes a member for dead


def decoders_left(pid: int) -> list[str]:
    """I9: return the decoders that a daemon which ended left."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "daemon.decoding.child.worker" in words and str(pid) in words:
            found.append(f"decoder {process.name} of process {pid} is left")
    return found


def locks_left(load: KafkaLoad) -> list[str]:
    """I9: return the locks on transactional ids that are held though no daemon runs."""
    found = []
    for lock in (load.folder / "state").rglob("*.lock"):
        file = os.open(lock, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found.append(f"{lock.name} is still locked")
        finally:
            os.close(file)
    return found


def ends_cleanly(
    load: KafkaLoad, process: "subprocess.Popen[bytes]", limit_s: float, *, expect: int = 0, alone: bool = True
) -> list[str]:
    """I9: return what is wrong with how a daemon ends that was told to; ``alone`` where no other runs beside it."""
    begun_s = time.monotonic()
    try:
        code = process.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return [f"{load.topic}: it did not stop within {limit_s:.0f} s"]
    took_s = time.monotonic() - begun_s
    wrong = [f"exit {code} after {took_s:.1f} s, not {expect}"] if code != expect else []
    wrong += decoders_left(process.pid) + (locks_left(load) if alone else [])
    return [f"{load.topic}: {line}" for line in wrong]


def stopped(faults: int, seed: int, folder: Path, transactional: bool) -> Result:
    """K3: SIGTERM at a random time, under load; nothing comes twice."""
    load = KafkaLoad(folder, transactional, delay_ms=1000.0)  # slow enough that the load outlasts its stops
    load.fill(2 * faults * CLIPS_A_STOP)
    draw, wrong = random.Random(seed), list[str]()
    for _ in range(faults):
        with load.running() as process:
            load.wait_for(process, "published")
            time.sleep(draw.uniform(0, 1))
            process.terminate()
            wrong += ends_cleanly(load, process, STOP_S)
    wrong += load.finish()
    result = load.check(faults)
    result.wrong += wrong
    return result


def k3(transactional: bool, faults: int, folder: Path) -> Result:
    """``faults`` stops, spread over loads that run at once."""
    a_load = min(max(faults // 3, 2), FAULTS_A_LOAD)
    return side_by_side(
        [
            partial(stopped, min(left, a_load), number, folder / str(number), transactional)
            for number, left in enumerate(range(faults, 0, -a_load))
        ]
    )


def _twice(load: KafkaLoad) -> list[str]:
    with load.running(Options(overrides=("engine.delay_ms=3000",))) as process:
        load.wait_for(process, "assign")
        time.sleep(1)
        process.terminate()
        time.sleep(0.3)
        process.terminate()
        return ends_cleanly(load, process, BAD_STOP_S)


def _while_loading(load: KafkaLoad) -> list[str]:
    with load.running(Options(slow_start_s=120.0)) as process:
        load.wait_for(process, "loading")
        process.terminate()
        return ends_cleanly(load, process, BAD_STOP_S)


def behind_proxy(load: KafkaLoad) -> contextlib.AbstractContextManager[Proxy]:
    """Open the way by which the load's daemons come to the broker."""
    return Proxy(load.cluster.proxy_port, load.cluster.hidden_port).serving()


def _broker_away(load: KafkaLoad) -> list[str]:
    with behind_proxy(load) as proxy, load.running() as process:
        load.wait_for(process, "published")
        proxy.silence()
        time.sleep(2)
        process.terminate()
        return ends_cleanly(load, process, BAD_STOP_S)


def _engine_hung(load: KafkaLoad) -> list[str]:
    (load.folder / "faults.yaml").write_text("hang_at_request: 5\n")
    with load.running() as process:
        load.wait_for(process, "assign")
        time.sleep(2)
        process.terminate()
        wrong = ends_cleanly(load, process, BAD_STOP_S)
    (load.folder / "faults.yaml").write_text("{}\n")
    return wrong


def badly_stopped(
    how: Callable[[KafkaLoad], list[str]], faults: int, folder: Path, transactional: bool, proxied: bool
) -> Result:
    """K4: one load, stopped again and again at a bad time; what was cut off may come twice."""
    load = KafkaLoad(folder, transactional, proxied=proxied, drain_s=SHORT_DRAIN_S, script="faults.yaml")
    (load.folder / "faults.yaml").write_text("{}\n")
    load.fill(faults * CLIPS_A_STOP * 2)
    wrong = [line for _ in range(faults) for line in how(load)]
    if proxied:
        with behind_proxy(load):
            wrong += load.finish()
    else:
        wrong += load.finish()
    result = load.check(faults, repeats_allowed=faults * IN_FLIGHT * WINDOWS_EACH)
    result.wrong += wrong
    return result


def k4(faults: int, folder: Path) -> Result:
    """``faults`` stops in each of the four ways, half of them with transactions."""
    ways = {"twice": _twice, "loading": _while_loading, "broker-away": _broker_away, "engine-hung": _engine_hung}
    loads = []
    for transactional, many in ((True, faults // 2), (False, faults - faults // 2)):
        loads += [
            partial(badly_stopped, how, many, folder / f"{name}-{transactional}", transactional, name == "broker-away")
            for name, how in ways.items()
            if many
        ]
    alone = [load for load in loads if load.args[-1]]  # there is one proxy, so these take turns
    total = side_by_side([load for load in loads if not load.args[-1]])
    total.add(side_by_side(alone, at_once=1))
    return total


def frozen(faults: int, folder: Path, transactional: bool) -> Result:
    """K5: a daemon that is frozen for a minute, while another takes over, commits nothing when it comes back."""
    load = KafkaLoad(folder, transactional, delay_ms=2000.0)
    load.fill(faults * 150)
    wrong = []
    with load.running() as other:
        for _ in range(faults):
            with load.running() as zombie:
                load.wait_for(zombie, "published")
                zombie.send_signal(signal.SIGSTOP)
                time.sleep(FROZEN_S)
                thawed_ns = time.monotonic_ns()
                zombie.send_signal(signal.SIGCONT)
                pid = zombie.pid
                wait_until(
                    lambda: zombie.poll() is not None or _given_up(load, pid, thawed_ns),  # noqa: B023
                    FINISH_S,
                    "the zombie's loss of its partitions",
                )
                wrong += _commits_of_a_zombie(load, pid, thawed_ns)
                zombie.terminate()
                wrong += ends_cleanly(load, zombie, STOP_S, alone=False)
        other.terminate()
        wrong += ends_cleanly(load, other, STOP_S)
    wrong += load.finish()
    result = load.check(faults, repeats_allowed=2 * faults * IN_FLIGHT * WINDOWS_EACH, alone=False)
    result.wrong += wrong
    return result


def _given_up(load: KafkaLoad, pid: int, since_ns: int) -> bool:
    events = read_journal(load.journal)
    return any(event["event"] == "revoke" and event["pid"] == pid and event["at_ns"] > since_ns for event in events)


def _commits_of_a_zombie(load: KafkaLoad, pid: int, thawed_ns: int) -> list[str]:
    """Return what a thawed daemon committed before it knew that its partitions were gone.

    The answer to a commit from before it was frozen can come after the thaw; invariants judge those.
    """
    mine = [event for event in read_journal(load.journal) if event["pid"] == pid and event["at_ns"] > thawed_ns]
    first_revoke = next((number for number, event in enumerate(mine) if event["event"] == "revoke"), len(mine))
    commits = [event for event in mine[:first_revoke] if event["event"] == "commit" and event["asked_ns"] > thawed_ns]
    return [f"{load.topic}: the zombie committed {event['places']}" for event in commits]


def k5(transactional: bool, faults: int, folder: Path) -> Result:
    """``faults`` zombies, spread over loads that run at once."""
    a_load = max(1, faults // 5)
    return side_by_side(
        [
            partial(frozen, min(left, a_load), folder / str(number), transactional)
            for number, left in enumerate(range(faults, 0, -a_load))
        ]
    )


ROWS = (
    *both_deliveries("K3", "SIGTERM under load", 100, 2, k3),
    Row("K4 kafka", "SIGTERM twice, while loading, broker away, engine hung", 20, 1, k4),
    *both_deliveries("K5", "frozen for 60 s, then back", 20, 0, k5),
)
