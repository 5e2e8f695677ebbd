"""Run the real daemon once over a configuration, killed at a point: CONFIG [POINT COUNTDOWN]."""

import asyncio
import sys
from dataclasses import replace
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
        house = assembly.build_household(settings, once=True)
        for route in house.routes:
            vars(route).update(
                _source=KillingSource(vars(route)["_source"], killer), _sink=KillingSink(vars(route)["_sink"], killer)
            )
        struck = replace(
            house,
            routes=[KillingRoute(route, killer) for route in house.routes],
            sampler=KillingSampler(house.sampler, killer),
            engine=KillingEngine(house.engine, killer),
        )
        return int(await Supervisor(struck).run())

    return asyncio.run(work())


if __name__ == "__main__":
    sys.exit(main())
