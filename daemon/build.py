"""The composition root: the one place where settings become the components of a running program."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from connectors.contract import Clip, Route
from connectors.errors import EngineLost
from connectors.routes import build_sink, frame_bytes, reopened_routes
from daemon.alike_failures import AlikeFailures
from daemon.config.chosen import with_slots
from daemon.config.clip_settings import ClipSettings, settings_by_source, settings_chooser
from daemon.config.prompt_trial import check_prompts, check_templates
from daemon.config.settings import Settings
from daemon.decoding.sampler import Sampler
from daemon.engines.build import build_engine
from daemon.engines.contract import Engine, reads_shared_frames
from daemon.feed.observer import Observer
from daemon.feed.recent import Feed
from daemon.in_flight_file import InFlightFile
from daemon.pipeline import Pipeline
from daemon.quarantine import ClipsInFlight
from daemon.service.health import Health
from daemon.service.hooks import NoHooks, Server, ServiceHooks
from daemon.service.reload import Reloader
from daemon.service.sdnotify import ServiceManager
from daemon.service.watchdog import Watchdog
from daemon.slots import Priorities
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
    in_flight: ClipsInFlight | None = None,
    alike: AlikeFailures | None = None,
    observer: Observer | None = None,
) -> Pipeline:
    """Return the main loop over these parts."""
    return Pipeline(
        routes,
        sampler,
        engine,
        choose,
        max_clips_in_flight=with_slots(settings.limits.max_clips_in_flight, engine.slots),
        max_attempts=settings.timeouts.max_attempts,
        metrics=metrics or Metrics(),
        in_flight=in_flight,
        alike=alike,
        priorities=Priorities(
            {name: source.priority for name, source in settings.sources.items()}, settings.limits.backfill_share
        ),
        observer=observer,
    )


def clip_settings(settings: Settings, source: str) -> Callable[[Clip], ClipSettings]:
    """Return the chooser of a one-shot command, whose clips all come from ``source``."""
    return settings_chooser({source: settings_by_source(settings)[source]})


@asynccontextmanager
async def started(settings: Settings, engine: Engine | None = None) -> AsyncIterator[tuple[Sampler, Engine]]:
    """Hold a sampler and an engine that run, for a one-shot command; an engine that dies is said as it is.

    The engine is the one that the settings mean, unless another is given.
    """
    sampler, engine = build_sampler(settings), engine or build_engine(settings, partial(check_prompts, settings))
    try:
        await sampler.start()
        await engine.start()
        sampler.scale_by(engine.planner.frame_size)
        sampler.shares_frames = reads_shared_frames(engine)
        yield sampler, engine
    except* EngineLost as lost:
        raise lost.exceptions[0] from None
    finally:
        await asyncio.gather(engine.close(), sampler.close())


def _status_server(settings: Settings, health: Health, watchdog: Watchdog, feed: Feed) -> Server | None:
    """Return the server of the page and the status; None where the configuration turns it off."""
    if settings.http is None or settings.http.listen is None:
        return None
    from daemon.web.assembly import page_server

    return page_server(settings, settings.http.listen, settings.http.hosts, health, watchdog, feed)


def build_components(
    settings: Settings, *, once: bool = False, read_again: Callable[[], Settings] | None = None
) -> Components:
    """Return everything a daemon is made of; nothing is started.

    A daemon that stays, not one that runs ``once``, serves its status and reloads what ``read_again`` returns.
    """
    check_templates(settings)
    sampler, engine = build_sampler(settings), build_engine(settings, partial(check_prompts, settings))
    sink = build_sink(settings.sink, settings.sources)
    by_source = settings_by_source(settings)
    grids = {name: (mine.windows.window_ns, mine.windows.stride_ns) for name, mine in by_source.items()}
    routes = reopened_routes(settings, sink, once=once, grids=grids)
    alike = AlikeFailures(
        settings.limits.alike_failures, reopen={} if once else {route.name: route.reopen for route in routes}
    )
    choose, metrics, manager = settings_chooser(by_source), Metrics(), ServiceManager()
    in_flight = ClipsInFlight(InFlightFile(settings.state_dir, settings.limits.max_clips_in_flight))
    hooks: ServiceHooks | NoHooks = NoHooks()
    feed = Feed(settings.web.keep if not once and settings.http is not None and settings.http.listen else 0)
    if not once:
        health = Health(engine, sampler, sink, routes, metrics, settings.limits.in_flight_bytes, pauses=alike)
        watchdog = Watchdog(health, manager, settings.timeouts.stall_s, settings.timeouts.decode_deadline_s)
        reloader = Reloader(settings, read_again or (lambda: settings), by_source, engine)
        server = _status_server(settings, health, watchdog, feed)
        hooks = ServiceHooks(health, watchdog, manager, reloader, server, alike.try_again)
    return Components(
        sampler,
        engine,
        sink,
        routes,
        lambda parts: build_pipeline(
            settings, parts.routes, parts.sampler, parts.engine, choose, metrics, in_flight, alike, feed
        ),
        settings.timeouts.drain_s,
        manager,
        hooks,
    )
