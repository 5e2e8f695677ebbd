"""The real daemon, run once over a configuration and killed at a point: CONFIG [POINT COUNTDOWN]."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from connectors.folder.route import FolderRoute
from connectors.folder.source import FolderSource
from daemon import build as assembly
from daemon.config.file import load
from daemon.service import logs
from daemon.supervisor import Supervisor
from neva import registration
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
    registration.register()
    settings = load(Path(sys.argv[1]))
    logs.set_up(settings.log)
    killer = Killer(sys.argv[2], int(sys.argv[3])) if len(sys.argv) > 2 else Killer("never", 0)

    async def work() -> int:
        components = assembly.build_components(settings, once=True)
        sources = [
            FolderSource(name, source, max_clip_bytes=settings.limits.max_clip_bytes, once=True)
            for name, source in settings.sources.items()
        ]
        sink = KillingSink(components.sink, killer)
        struck = replace(
            components,
            routes=[KillingRoute(FolderRoute(KillingSource(source, killer), sink), killer) for source in sources],
            sampler=KillingSampler(components.sampler, killer),
            engine=KillingEngine(components.engine, killer),
        )
        return int(await Supervisor(struck).run())

    return asyncio.run(work())


if __name__ == "__main__":
    sys.exit(main())
