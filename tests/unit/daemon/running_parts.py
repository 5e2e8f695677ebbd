"""Parts of a daemon that stand still, for what only looks at them."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from daemon.engines.fake import FakeEngine
from daemon.service.health import Health
from daemon.service.sdnotify import ServiceManager
from daemon.telemetry.metrics import Metrics


@dataclass
class Clock:
    """Time that only a test moves."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Heard(ServiceManager):
    """A service manager that remembers what it is told."""

    def __init__(self, watchdog_s: float | None = 60.0) -> None:
        super().__init__("")
        self.watchdog_s = watchdog_s
        self.words: list[str] = []

    def _send(self, message: str) -> None:
        self.words.append(message)


@dataclass
class Parts:
    """A health over parts whose accounts a test writes."""

    clock: Clock = field(default_factory=Clock)
    route: Any = field(
        default_factory=lambda: SimpleNamespace(
            name="inbox", waiting_for="", lag={("clips", "3"): 7}, held_bytes=100, counters={}, stream=None
        )
    )
    sink: Any = field(default_factory=lambda: SimpleNamespace(waiting_for=""))
    engine: FakeEngine = field(default_factory=FakeEngine)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.clock)
        sampler: Any = SimpleNamespace(
            budget=SimpleNamespace(held_bytes=200),
            index_budget=SimpleNamespace(held_bytes=30),
            rendered_budget=SimpleNamespace(held_bytes=40),
            pool=SimpleNamespace(pids=[1, 2], progress=0, missing_layers={}),
            windows_for_device={"device": 3, "processor": 1},
        )
        self.health = Health(self.engine, sampler, self.sink, [self.route], self.metrics, 1000, clock=self.clock)
