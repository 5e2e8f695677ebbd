"""B3, P1 and P2: a way to the broker that is slow and breaks, answers that get lost, and a sink that takes its time."""

import time
from functools import partial
from pathlib import Path

from tests.chaos.kafka_broker_rows import (
    REPEATS_A_FAULT,
    Outage,
    away,
    first_after,
    in_flight_bounded,
    now_ms,
    recovered,
    under_load,
)
from tests.chaos.kafka_cluster import cluster
from tests.chaos.kafka_invariants import members_stay
from tests.chaos.kafka_load import BOTH_WAYS, FINISH_S, KafkaLoad, both_deliveries, side_by_side, wait_until
from tests.chaos.kafka_stop_rows import STOP_S, ends_cleanly
from tests.chaos.proxy import END_TRANSACTION, PRODUCE, Proxy
from tests.chaos.run_kafka_daemon import Options
from tests.chaos.table import Result

PERIOD_S = 60.0  # of one kind of trouble
LATENCY_S, RESETS, HALF_OPEN = 0.5, 0.01, 0.002
FOR_EVER_S = 60.0  # several times every deadline on the way
SLOW_S = (5.0, 60.0)
TROUBLES = ({"latency_s": LATENCY_S}, {"reset_rate": RESETS}, {"half_open_rate": HALF_OPEN})


def troubled(transactional: bool, faults: int, folder: Path) -> Result:
    """B3: a minute of latency, a minute of resets, a minute of half-open connections, and so on."""
    load = KafkaLoad(folder, transactional, delay_ms=1000.0, proxied=BOTH_WAYS)
    load.fill(40 + faults * 200)
    wrong, slowest_s = list[str](), 0.0
    with Proxy(load.cluster.proxy_port, load.cluster.hidden_port, seed=faults) as proxy, under_load(load, wrong):
        before = load.history().generations[-1:]
        for number in range(faults):
            _trouble(proxy, **TROUBLES[number % len(TROUBLES)])
            time.sleep(PERIOD_S)
        _trouble(proxy)
        back_ms = now_ms()
        slowest_s = (first_after(load, back_ms) - back_ms) / 1000
        wrong += [f"{load.topic}: {line}" for line in members_stay([*before, *load.history().generations[-1:]])]
    result = load.check(faults, repeats_allowed=faults * REPEATS_A_FAULT, alone=False)
    return recovered(result, slowest_s, wrong)


def _trouble(proxy: Proxy, latency_s: float = 0.0, reset_rate: float = 0.0, half_open_rate: float = 0.0) -> None:
    proxy.latency_s, proxy.reset_rate, proxy.half_open_rate = latency_s, reset_rate, half_open_rate


def unanswered(transactional: bool, faults: int, folder: Path) -> Result:
    """P1: the broker does what it was asked and the answer is lost; nothing comes twice.

    In transactions the lost answer is that to the records or that to the commit, in turn.
    """
    kinds = (PRODUCE, END_TRANSACTION) if transactional else (PRODUCE,)
    load = KafkaLoad(folder, transactional, delay_ms=400.0, proxied=BOTH_WAYS)
    load.fill(40 + faults * 30)
    wrong, slowest_s = list[str](), 0.0
    with Proxy(load.cluster.proxy_port, load.cluster.hidden_port) as proxy, under_load(load, wrong):
        for number in range(faults):
            proxy.lose_answer(kinds[number % len(kinds)])
            wait_until(lambda: proxy.lost_answers > number, FINISH_S, "the loss of an answer")  # noqa: B023
            lost_ms = now_ms()
            slowest_s = max(slowest_s, (first_after(load, lost_ms) - lost_ms) / 1000)
    result = load.check(faults)
    return recovered(result, slowest_s, wrong)


def slow_sink(slow_s: float, folder: Path, transactional: bool) -> Result:
    """P2: every publish takes ``slow_s``; what is in flight is bounded and the group does not move."""
    load = KafkaLoad(folder, transactional)
    load.fill(16)
    wrong = list[str]()
    with load.running(Options(slow_publish_s=slow_s)) as process:
        load.wait_for(process, "assign")
        before = load.history().generations[-1:]
        time.sleep(2 * slow_s + 5)
        wrong += [f"{load.topic}: {line}" for line in members_stay([*before, *load.history().generations[-1:]])]
        if load.noted("published", process.pid) == 0:
            wrong.append(f"{load.topic}: nothing was published")
        process.terminate()
        wrong += ends_cleanly(load, process, STOP_S + slow_s)
    wrong += [*in_flight_bounded(load), *load.finish()]
    result = load.check(1, repeats_allowed=REPEATS_A_FAULT)
    result.wrong += wrong
    return result


def p2(transactional: bool, faults: int, folder: Path) -> Result:
    """``faults`` of each: 5 s, 60 s, and for ever, where the daemon says so and goes on when the broker does."""
    made = cluster()
    ways = BOTH_WAYS if transactional else frozenset({"sink"})
    total = side_by_side(
        [
            partial(slow_sink, slow_s, folder / f"{slow_s:.0f}-{number}", transactional)
            for slow_s in SLOW_S
            for number in range(faults)
        ]
    )
    with Proxy(made.proxy_port, made.hidden_port) as proxy:
        outage = Outage(proxy, faults, FOR_EVER_S, held=frozenset({PRODUCE}))
        for_ever = [partial(away, folder / f"ever-{number}", transactional, ways, outage) for number in range(faults)]
        total.add(side_by_side(for_ever, at_once=faults))
    return total


ROWS = (
    *both_deliveries("B3", "latency 500 ms, 1 % resets, half-open, 60 s each", 10, 0, troubled),
    *both_deliveries("P1", "the answer to records or a commit is lost", 50, 5, unanswered),
    *both_deliveries("P2", "the sink takes 5 s, 60 s, for ever", 10, 0, p2),
)
