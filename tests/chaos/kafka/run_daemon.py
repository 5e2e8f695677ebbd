"""The real daemon over a Kafka configuration, noted and struck between its parts: CONFIG JOURNAL [OPTIONS as JSON]."""

import asyncio
import faulthandler
import json
import signal
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from connectors.at_least_once import AtLeastOnceRoute
from connectors.kafka.transactional_route import TransactionalRoute
from daemon import build as assembly
from daemon.config.file import load
from daemon.service import logs
from daemon.supervisor import Components, Supervisor
from neva import registration
from tests.chaos.kafka.interceptors import (
    HeldRoute,
    Journal,
    KafkaKillingSource,
    NotedPartitions,
    SlowToStart,
    StruckCommitter,
)
from tests.chaos.kill_points import Killer, KillingEngine, KillingSampler, KillingSink


@dataclass(frozen=True)
class Options:
    """How a daemon is struck, and what it has of its own configuration.

    ``hold_until`` names a file without which no publish goes on.
    """

    once: bool = False
    point: str = "never"
    countdown: int = 0
    hold_until: str | None = None
    slow_publish_s: float = 0.0
    slow_start_s: float = 0.0
    overrides: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return what the program takes as its last argument."""
        return json.dumps(asdict(self))


def struck(components: Components, options: Options, journal: Journal) -> Components:
    """Return the components with everything around its parts."""
    killer = Killer(options.point, options.countdown)

    def around(route: Any) -> Any:
        source = route.source
        source._partitions = NotedPartitions.instead_of(source._partitions, journal)
        source._committer = StruckCommitter(source._committer, killer, journal)
        if isinstance(route, TransactionalRoute):
            route.source = KafkaKillingSource(source, killer, journal)  # type: ignore[assignment]
        else:
            route = AtLeastOnceRoute(KafkaKillingSource(source, killer, journal), KillingSink(components.sink, killer))
        until = Path(options.hold_until) if options.hold_until else None
        return HeldRoute(route, killer, journal, slow_s=options.slow_publish_s, until=until)

    engine: Any = SlowToStart(KillingEngine(components.engine, killer), killer, journal, options.slow_start_s)
    sampler: Any = KillingSampler(components.sampler, killer)
    routes: Any = components.routes
    return replace(components, routes=[around(route.route) for route in routes], sampler=sampler, engine=engine)


def main() -> int:
    """Return the daemon's exit code, if it lives to have one. SIGUSR1 writes every thread's stack to its log."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    registration.register()
    journal = Journal(Path(sys.argv[2]))
    options = Options(**json.loads(sys.argv[3])) if len(sys.argv) > 3 else Options()
    settings = load(Path(sys.argv[1]), options.overrides)
    logs.set_up(settings.log)

    async def work() -> int:
        components = assembly.build_components(settings, once=options.once)
        return int(await Supervisor(struck(components, options, journal)).run())

    return asyncio.run(work())


if __name__ == "__main__":
    sys.exit(main())
