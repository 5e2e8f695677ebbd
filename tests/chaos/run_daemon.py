"""Run the real daemon once over a configuration, killed at a point: CONFIG [POINT COUNTDOWN]."""

import asyncio
import sys
from pathlib import Path

from daemon import assembly, logs
from daemon.config_file import load
from daemon.supervisor import Supervisor
from tests.chaos.kill_points import (
    Killer,
    KillingEngine,
    KillingRoute,
    KillingSampler,
    KillingSink,
    KillingSource,
)


def main() -> int:
    """Return the daemon's exit code, if it lives to have one."""
    settings = load(Path(sys.argv[1]))
    logs.set_up(settings.log)
    killer = Killer(sys.argv[2], int(sys.argv[3])) if len(sys.argv) > 2 else Killer("never", 0)

    async def work() -> int:
        parts = assembly.Parts(
            wrap_source=lambda source: KillingSource(source, killer),
            wrap_sink=lambda sink: KillingSink(sink, killer),
            wrap_route=lambda route: KillingRoute(route, killer),
            wrap_sampler=lambda sampler: KillingSampler(sampler, killer),
            wrap_engine=lambda engine: KillingEngine(engine, killer),
        )
        return int(await Supervisor(assembly.build_household(settings, once=True, parts=parts)).run())

    return asyncio.run(work())


if __name__ == "__main__":
    sys.exit(main())
