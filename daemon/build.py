"""The composition root: the one place where settings become the components of a running program."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from connectors.contract import Clip, Route
from connectors.errors import EngineLost
from connectors.routes import build_routes, build_sink, frame_bytes
from daemon.config.clip_settings import ClipSettings, settings_by_source, settings_chooser
from daemon.config.settings import Settings
from daemon.decoding.sampler import Sampler
from daemon.engines.build import build_engine
from daemon.engines.contract import Engine
from daemon.pipeline import Pipeline
from daemon.service.health import Condition
from daemon.service.hooks import Attendant
from daemon.service.reload import Reloader
from daemon.service.sdnotify import ServiceManager
from daemon.service.watchdog import Watchdog
from daemon.supervisor import Components
from daemon.telemetry.metrics import Metrics


def build_sampler(settings: Settings) -> Sampler:
    """Return the sampler; it is told the size of frames that the model wants when the model is known."""
    return Sampler(settings.limits, settings.timeouts, frame_bytes=frame_bytes(settings))


def build_pipeline(
    settings: Settings,
    routes: Sequence[Route],
    sampler: Sampler,
    engine: Engine,
    choose: Callable[[Clip], ClipSettings],
    metrics: Metrics | None = None,
) -> Pipeline:
    """Return the main loop over these parts."""
    return Pipeline(
        routes,
        sampler,
        engine,
        choose,
        max_clips_in_flight=settings.limits.max_clips_in_flight,
        max_attempts=settings.timeouts.max_attempts,
        metrics=metrics or Metrics(),
    )


def clip_settings(settings: Settings, source: str) -> Callable[[Clip], ClipSettings]:
    """Return the chooser of a one-shot command, whose clips all come from ``source``."""
    return settings_chooser({source: settings_by_source(settings)[source]})


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[tuple[Sampler, Engine]]:
    """Hold a sampler and an engine that run, for a one-shot command; an engine that dies is said as it is."""
    sampler, engine = build_sampler(settings), build_engine(settings)
    try:
        await sampler.start()
        await engine.start()
        sampler.fit(engine.planner.frame_bound)
        yield sampler, engine
    except* EngineLost as lost:
        raise lost.exceptions[0] from None
    finally:
        await asyncio.gather(engine.close(), sampler.close())


def build_components(
    settings: Settings, *, once: bool = False, read_again: Callable[[], Settings] | None = None
) -> Components:
    """Return everything a daemon is made of; nothing is started.

    A daemon that stays, not one that runs ``once``, serves its status and reloads what ``read_again`` returns.
    """
    sampler, engine = build_sampler(settings), build_engine(settings)
    sink = build_sink(settings.sink, settings.sources)
    routes = build_routes(settings, sink, once=once)
    by_source = settings_by_source(settings)
    choose, metrics, manager = settings_chooser(by_source), Metrics(), ServiceManager()
    hooks = None
    if not once:
        condition = Condition(engine, sampler, sink, routes, metrics, settings.limits.in_flight_bytes)
        watchdog = Watchdog(condition, manager, settings.timeouts.stall_s, settings.timeouts.decode_deadline_s)
        reloader = Reloader(settings, read_again or (lambda: settings), by_source, engine)
        listen = settings.http.listen if settings.http is not None else None
        hooks = Attendant(condition, watchdog, manager, reloader, listen)
    return Components(
        sampler,
        engine,
        sink,
        routes,
        lambda parts: build_pipeline(settings, parts.routes, parts.sampler, parts.engine, choose, metrics),
        settings.timeouts.drain_s,
        manager,
        hooks,
    )
