"""B2, B3, P1 and P2: the network between a daemon and its broker, which leads through a proxy that can lose it."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import Popen

import httpx

from testing.load import WINDOWS_EACH
from testing.ports import free_port
from tests.chaos.kafka import invariants as promises
from tests.chaos.kafka.cluster import cluster
from tests.chaos.kafka.load import IN_FLIGHT, KafkaLoad, wait_until
from tests.chaos.kafka.proxy import END_TXN, OFFSET_COMMIT, PRODUCE, WRITES, Proxy
from tests.chaos.soak_rows import look
from tests.chaos.table import Result, Row

OUTAGE_S = float(os.environ.get("CHAOS_OUTAGE_S", "600"))
TROUBLE_S = float(os.environ.get("CHAOS_TROUBLE_S", "60"))
RECOVERY_S = 30.0  # I7 of these rows: the longest back-off, a new connection, and a round of the group
NOTICED_S = 40.0  # until an outage is said: the client's requests time out first
MOST_GROWTH_MB = 20.0  # I6 over an outage: nothing is taken in while it lasts
SIDE_BY_SIDE = 4
FATE_UNKNOWN = IN_FLIGHT * WINDOWS_EACH  # captions that may come twice where the answers to their writes never came


@dataclass
class Life:
    """A load with one daemon that lives through its trouble."""

    load: KafkaLoad
    process: "Popen[bytes]"

    @property
    def captions(self) -> int:
        """How many progresses were published so far, by the daemon's own account."""
        return self.load.noted("published", self.process.pid)

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        text = httpx.get(f"http://127.0.0.1:{self.load.http_port}/metrics", timeout=10).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name}{{"))

    def is_ready(self) -> bool:
        """Whether the daemon says that it captions."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.load.http_port}/readyz", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def wait_for_more(self, timeout_s: float) -> float:
        """Wait for the next publish; return how long it took."""
        begun_s, before = time.monotonic(), self.captions
        wait_until(lambda: self.captions > before, timeout_s, "a publish")
        return time.monotonic() - begun_s


@contextmanager
def lives(folder: Path, count: int, clips: int, delay_ms: float = 400.0) -> Iterator[list[Life]]:
    """Run daemons, every other one with transactions, until each has published something."""
    with ExitStack() as stack:
        started = []
        for number in range(count):
            load = KafkaLoad(
                folder / str(number),
                transactional=number % 2 == 1,
                delay_ms=delay_ms,
                proxied=True,
                http_port=free_port(),
            )
            load.fill(clips)
            started.append(Life(load, stack.enter_context(load.running())))
        for life in started:
            wait_until(lambda life=life: life.captions > 0, 120, "the first publish")  # type: ignore[misc]
        yield started


def end(life: Life, result: Result, faults: int, *, repeats_allowed: int = 0) -> None:
    """Stop a daemon cleanly, let another finish the load, and check it all."""
    life.process.terminate()
    if (code := life.process.wait(90)) != 0:
        result.wrong.append(f"{life.load.topic}: the daemon exited with {code}")
    result.wrong += life.load.finish()
    result.add(life.load.check(faults, repeats_allowed=repeats_allowed))


def b2(faults: int, folder: Path) -> Result:
    """Nothing passes for ten minutes: the daemons wait, say so, hold no more, and go on when the broker is there."""
    result, hub = Result(), cluster()
    with Proxy(hub.proxy_port, hub.hidden_port).serving() as proxy, lives(folder, faults, 150) as daemons:
        proxy.silence()
        begun_s = time.monotonic()
        for life in daemons:
            wait_until(lambda life=life: not life.is_ready(), NOTICED_S, "/readyz 503")  # type: ignore[misc]
        before = [look(life.process.pid) for life in daemons]
        time.sleep(max(OUTAGE_S - (time.monotonic() - begun_s), 0))
        for life, then in zip(daemons, before, strict=True):
            now = look(life.process.pid)
            if now is None or then is None:
                result.wrong.append(f"{life.load.topic}: the daemon did not live through the outage")
            elif now.rss_mb - then.rss_mb > MOST_GROWTH_MB:
                result.wrong.append(f"{life.load.topic}: it grew by {now.rss_mb - then.rss_mb:.0f} MB meanwhile")
        proxy.speak()
        _recover(daemons, result)
        for life in daemons:
            end(life, result, 1, repeats_allowed=FATE_UNKNOWN)
    return result


def _recover(daemons: Sequence[Life], result: Result) -> None:
    """Wait until each daemon publishes again and is ready."""
    begun_s = time.monotonic()
    for life in daemons:
        if life.process.poll() is not None:
            result.wrong.append(f"{life.load.topic}: the daemon exited with {life.process.returncode}")
            continue
        life.wait_for_more(RECOVERY_S * 2)
        wait_until(life.is_ready, RECOVERY_S, "/readyz 200")
        result.add_recovery(time.monotonic() - begun_s, RECOVERY_S, life.load.topic)


def _in_turn(faults: int, folder: Path, runs: Sequence[Callable[[Path, int], Result]]) -> Result:
    """Share faults out among ``runs``; each is given so many daemons at once, and a folder of its own."""
    result = Result()
    for number, run in enumerate(runs):
        count = len(range(number, faults, len(runs)))
        for first in range(0, count, SIDE_BY_SIDE):
            result.add(run(folder / f"{number}-{first}", min(count - first, SIDE_BY_SIDE)))
    return result


def _group_moved(life: Life, before: Sequence[int], what: str) -> list[str]:
    """Return what the load's group did since it had these generations, where it should have stayed as it was."""
    moved = promises.members_stay(life.load.history().generations[len(before) - 1 :])
    return [f"{life.load.topic}, {what}: {line}" for line in moved]


def _slow(proxy: Proxy) -> None:
    proxy.delay_s = 0.5


def _break(proxy: Proxy) -> None:
    proxy.reset_share = 0.01


@dataclass(frozen=True)
class Trouble:
    """What is wrong with the network."""

    name: str
    begin: Callable[[Proxy], None]
    group_stays: bool
    repeats_allowed: int


TROUBLES = (
    Trouble("answers 500 ms late", _slow, True, 0),
    Trouble("1 % of messages break their connection", _break, True, FATE_UNKNOWN),
    Trouble("half-open connections", Proxy.stick, False, FATE_UNKNOWN),  # the group loses its member
)


def b3(faults: int, folder: Path) -> Result:
    """A minute of each trouble: nothing is lost, and while the network is merely slow the group stays as it is."""
    return _in_turn(faults, folder, [partial(_trouble, trouble) for trouble in TROUBLES])


def _trouble(trouble: Trouble, folder: Path, count: int) -> Result:
    result, hub = Result(), cluster()
    clips = int(TROUBLE_S * 3.5) + 60  # sixteen windows a second is the most that a daemon can do meanwhile
    with (
        Proxy(hub.proxy_port, hub.hidden_port).serving() as proxy,
        lives(folder, count, clips, 1000.0) as daemons,
    ):
        begun = [life.load.history().generations for life in daemons]
        trouble.begin(proxy)
        time.sleep(TROUBLE_S)
        proxy.delay_s = proxy.reset_share = 0.0
        _recover(daemons, result)
        for life, before in zip(daemons, begun, strict=True):
            if trouble.group_stays:
                result.wrong += _group_moved(life, before, trouble.name)
            end(life, result, 1, repeats_allowed=trouble.repeats_allowed)
    return result


def p1(faults: int, folder: Path) -> Result:
    """Answers to writes and commits get lost: what was written is known all the same, and nothing is written twice."""
    result, hub = Result(), cluster()
    with (
        Proxy(hub.proxy_port, hub.hidden_port).serving() as proxy,
        lives(folder, 2, 60 + 6 * faults, delay_ms=100.0) as daemons,
    ):
        for number in range(faults):
            before = proxy.dropped
            proxy.drop_answer(*((PRODUCE,) if number % 2 else (END_TXN, OFFSET_COMMIT)))
            wait_until(lambda: proxy.dropped > before, 60, "the loss of an answer")  # noqa: B023
            for life in daemons:
                result.slowest_recovery_s = max(result.slowest_recovery_s, life.wait_for_more(RECOVERY_S * 2))
        for life in daemons:
            end(life, result, 0)
    result.faults = faults
    return result


SLOWNESS = (5.0, 60.0, 120.0)  # the last stands for ever: it is over when it has been noticed for long


def p2(faults: int, folder: Path) -> Result:
    """A sink's writes get no answer: no more than the cap is in flight, the group stays as it is, then all goes on."""
    return _in_turn(faults, folder, [partial(_slow_sink, slow_s) for slow_s in SLOWNESS])


def _slow_sink(slow_s: float, folder: Path, count: int) -> Result:
    result, hub = Result(), cluster()
    with (
        Proxy(hub.proxy_port, hub.hidden_port).serving() as proxy,
        lives(folder, count, 100) as daemons,
    ):
        begun = [life.load.history().generations for life in daemons]
        proxy.silence(*WRITES)
        silent_s = time.monotonic()
        while (left_s := slow_s - (time.monotonic() - silent_s)) > 0:
            for life in daemons:
                if (held := life.metric("captiond_clips_in_flight")) > IN_FLIGHT:
                    result.wrong.append(f"{life.load.topic}: {held:.0f} clips in flight, above {IN_FLIGHT}")
            time.sleep(min(left_s, 1.0))
        if slow_s > NOTICED_S:
            result.wrong += [f"{life.load.topic}: says that it is ready" for life in daemons if life.is_ready()]
        proxy.speak()
        _recover(daemons, result)
        for life, before in zip(daemons, begun, strict=True):
            result.wrong += _group_moved(life, before, f"a sink silent for {slow_s:.0f} s")
            end(life, result, 1)
    return result


ROWS = (
    Row("B2", "nothing passes to the broker for ten minutes", 3, 0, b2),
    Row("B3", "a slow, breaking, half-open network for a minute", 10, 0, b3),
    Row("P1", "answers to writes and commits get lost", 50, 4, p1),
    Row("P2", "a sink that is silent for 5, 60 and 120 s", 30, 0, p2),
)
