"""The health of the running daemon: one view for the status line, the status page, `/readyz`, `/metrics` and `status`.

It only reads. What a part waits for is that part's own report: see :class:`connectors.contract.Reporting`.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from prometheus_client import Counter, Gauge

from connectors.contract import Route, Sink, StreamReport
from connectors.messages.safe_text import escaped
from connectors.messages.url_secrets import mask_urls
from connectors.messages.wall_time import wall_text
from daemon import __version__
from daemon.decoding.sampler import Sampler
from daemon.engines.contract import Engine, EngineStatistics
from daemon.telemetry.metrics import Metrics, Readings

RATE_SPAN_S = 60.0  # rates are over the last minute, or over the time since the start where that is less


class Phase(StrEnum):
    """The phases in the life of a daemon."""

    STARTING = "starting"  # decoders and the model are loaded
    READY = "ready"
    DRAINING = "draining"  # windows in flight are finished, nothing new is taken
    STOPPED = "stopped"


@dataclass
class Rates:
    """Clips and windows per second over a sliding span. Looking at them is what moves the span."""

    clock: Callable[[], float] = time.monotonic
    _seen: deque[tuple[float, float, float]] = field(default_factory=deque)

    def note(self, clips: float, windows: float) -> tuple[float, float]:
        """Note the totals of now and return both rates."""
        now_s = self.clock()
        self._seen.append((now_s, clips, windows))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= RATE_SPAN_S:
            self._seen.popleft()
        then_s, clips_then, windows_then = self._seen[0]
        if now_s <= then_s:
            return 0.0, 0.0
        return (clips - clips_then) / (now_s - then_s), (windows - windows_then) / (now_s - then_s)


class Pauses(Protocol):
    """The sources that are paused since all their clips fail, by name: the reason, and a sentence about it."""

    @property
    def paused(self) -> Mapping[str, str]: ...
    @property
    def why_paused(self) -> Mapping[str, str]: ...


class Health:
    """Reads the parts of a daemon. ``phase`` is for :class:`daemon.service.hooks.ServiceHooks` to set."""

    def __init__(
        self,
        engine: Engine,
        sampler: Sampler,
        sink: Sink,
        routes: Sequence[Route],
        metrics: Metrics,
        limit_bytes: int,
        *,
        pauses: Pauses | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine, self.sampler, self.sink, self.routes, self.metrics = engine, sampler, sink, routes, metrics
        self._pauses = pauses
        self._limit_bytes = limit_bytes  # limits.in_flight_bytes
        self.phase = Phase.STARTING
        self.last_reload = ""  # the sentence that answered the last one
        self.restarts: dict[str, int] = {}  # how earlier runs ended -> how often
        self._clock, self._begun_s, self._rates = clock, clock(), Rates(clock)
        metrics.read_from(self.readings)

    def waiting_for(self) -> dict[str, str]:
        """Return what is waited for, by part: a source's name, ``sink`` or ``engine``."""
        reports = {route.name: route.waiting_for for route in self.routes}
        reports |= {"sink": self.sink.waiting_for, "engine": self.engine.waiting_for}
        return {part: escaped(mask_urls(text)) for part, text in reports.items() if text}

    def not_ready(self) -> str:
        """Return why the daemon captions nothing now; empty while it is ready."""
        if self.phase is not Phase.READY:
            return str(self.phase)
        waits = [f"{part} waits for {text}" for part, text in self.waiting_for().items()]
        streams = self.streams()
        if streams and len(streams) == len(self.routes) and not any(one["connected"] for one in streams.values()):
            waits += [f"{name} is away: {one['why']}" for name, one in streams.items()]
        return "; ".join([*waits, *(f"{name} is paused: {text}" for name, text in self.paused().items())])

    def paused(self) -> dict[str, str]:
        """Return why sources are paused, by name."""
        if self._pauses is None:
            return {}
        return {name: escaped(mask_urls(text)) for name, text in self._pauses.why_paused.items()}

    def streams(self) -> dict[str, dict[str, Any]]:
        """Return how the live streams are, by name. One that is away stops nobody else."""
        found = {route.name: route.stream for route in self.routes}
        return {name: self._stream(name, report) for name, report in found.items() if report is not None}

    def _stream(self, name: str, report: StreamReport) -> dict[str, Any]:
        captions = self.metrics.captions
        return {
            "connected": report.connected,
            "since": wall_text(report.since_ns),
            "why": escaped(mask_urls(report.why)),
            "lag_windows": report.lag_windows,
            "lag_s": round(report.lag_ns / 1e9, 3),
            "gaps": _of(captions, name, status="gap"),
            "skipped": _of(captions, name, status="skipped"),
        }

    def in_flight(self) -> int:
        """Return how many clips are being worked on."""
        return int(self.metrics.total(self.metrics.clips_in_flight))

    def steps(self) -> int:
        """Return a count that rises with everything the main loop gets done."""
        count = self.metrics
        counters = (count.clips_received, count.clips_done, count.clips_rejected, count.clip_retries, count.captions)
        done = sum(count.total(counter) for counter in (*counters, count.tokens))
        done += self.sampler.pool.progress  # a film of hours is planned for minutes
        done += self.rendering_steps()
        return int(done + sum(self._events().values()))  # a long download is progress too

    def rendering_steps(self) -> int:
        """Return a count that rises with every window that is rendered, and every renderer that is replaced."""
        rendering = self.engine.rendering
        return 0 if rendering is None else rendering.done + rendering.replaced

    def line(self) -> str:
        """Return the one line that the service manager shows."""
        if self.phase is Phase.STARTING:
            return "Starting: the model is loaded" + "".join(f"; {text}" for text in self.waiting_for().values())
        clips_per_s, windows_per_s = self._per_second()
        done = f"{self.in_flight()} clips in flight, {clips_per_s:.2f} clips/s, {windows_per_s:.1f} windows/s"
        if self.phase is not Phase.READY:
            return f"{self.phase.capitalize()}: {done}"
        waits = self.not_ready() or ("" if self.in_flight() else "waits for clips")
        return (
            f"Ready: {done}" + (f"; {waits}" if waits else "") + (f"; {self.last_reload}" if self.last_reload else "")
        )

    def snapshot(self) -> dict[str, Any]:
        """Return everything a person asks about, as plain values."""
        clips_per_s, windows_per_s = self._per_second()
        count, total = self.metrics, self.metrics.total
        budget, indices = self.sampler.budget, self.sampler.index_budget
        return {
            "version": __version__,
            "phase": str(self.phase),
            "ready": not self.not_ready(),
            "why_not_ready": self.not_ready(),
            "waiting_for": self.waiting_for(),
            "paused": self.paused(),
            "up_s": round(self._clock() - self._begun_s, 1),
            "model": mask_urls(self.engine.model_id),
            "clips": {
                "received": int(total(count.clips_received)),
                "done": int(total(count.clips_done)),
                "rejected": int(total(count.clips_rejected)),
                "in_flight": self.in_flight(),
                "waiting": int(total(count.clips_waiting)),
            },
            "windows": {
                "captioned": int(total(count.captions)),
                "waiting": int(total(count.windows_waiting)),
                "in_engine": count.requests,
                "engine_slots": self.engine.slots,
            },
            "per_second": {"clips": round(clips_per_s, 3), "windows": round(windows_per_s, 3)},
            "in_flight_bytes": {
                "held": budget.held_bytes + indices.held_bytes + self._encoded_bytes(),
                "limit": self._limit_bytes,
            },
            "sources": {route.name: self._source(route.name) for route in self.routes},
            "streams": self.streams(),
            "restarts": dict(self.restarts),
            "last_reload": self.last_reload,
            "sandbox_missing": dict(self.sampler.pool.missing_layers),
        }

    def _source(self, name: str) -> dict[str, int]:
        count = self.metrics
        return {
            "received": _of(count.clips_received, name),
            "done": _of(count.clips_done, name),
            "rejected": _of(count.clips_rejected, name),
            "in_flight": _of(count.clips_in_flight, name),
        }

    def _per_second(self) -> tuple[float, float]:
        count = self.metrics
        ended = count.total(count.clips_done) + count.total(count.clips_rejected)
        return self._rates.note(ended, count.total(count.captions))

    def readings(self) -> Readings:
        """Return the metrics that are states, as they are now."""
        engine, budget, waiting = self.engine, self.sampler.budget, self.waiting_for()
        parts = [*(route.name for route in self.routes), "sink", "engine"]
        found: dict[str, dict[tuple[str, ...], float]] = {
            "captiond_engine_busy_seconds_total": {(): self.metrics.engine_busy_s},
            "captiond_engine_slots": {(): engine.slots},
            "captiond_engine_progress_total": {(): engine.progress},
            "captiond_in_flight_bytes": {
                ("encoded",): self._encoded_bytes(),
                ("frames",): budget.held_bytes,
                ("indices",): self.sampler.index_budget.held_bytes,
                ("rendered",): self.sampler.rendered_budget.held_bytes,
            },
            "captiond_in_flight_bytes_limit": {(): self._limit_bytes},
            "captiond_decoders": {(): len(self.sampler.pool.pids)},
            "captiond_hwaccel_windows_total": {(by,): n for by, n in self.sampler.windows_for_device.items()},
            "captiond_sandbox_missing": {(layer,): 1.0 for layer in self.sampler.pool.missing_layers},
            "captiond_source_lag": self._lags(),
            "captiond_source_events_total": self._events(),
            "captiond_waiting": {(part,): float(part in waiting) for part in parts},
            "captiond_source_paused": {place: 1.0 for place in self._pauses.paused.items()} if self._pauses else {},
            **_of_streams(self.routes),
            "captiond_ready": {(): float(not self.not_ready())},
            "captiond_restarts_total": {(ended,): times for ended, times in self.restarts.items()},
            "captiond_build_info": {(__version__, mask_urls(engine.model_id)): 1.0},
        }
        if (rendering := engine.rendering) is not None:
            found["captiond_renderers"] = {(): rendering.processes}
            found["captiond_renderers_replaced_total"] = {(): rendering.replaced}
            found["captiond_render_queue"] = {("waiting",): rendering.waiting, ("rendering",): rendering.at_work}
        if (statistics := engine.statistics) is not None:
            found["captiond_engine_queue"] = {("running",): statistics.running, ("waiting",): statistics.waiting}
            found["captiond_engine_kv_cache_ratio"] = {(): statistics.kv_cache_usage}
            found |= _of_replicas(statistics)
        return found

    def _encoded_bytes(self) -> int:
        return sum(route.held_bytes for route in self.routes)

    def _lags(self) -> dict[tuple[str, ...], float]:
        return {(route.name, *place): float(lag) for route in self.routes for place, lag in route.lag.items()}

    def _events(self) -> dict[tuple[str, ...], float]:
        return {(route.name, event): float(n) for route in self.routes for event, n in route.counters.items()}


def _of_replicas(statistics: EngineStatistics) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the readings of each replica: one whose requests stay and whose steps don't rise is what hangs."""
    replicas = statistics.replicas.items()
    return {
        "captiond_engine_replica_requests": {(str(number),): n for number, n in statistics.held().items()},
        "captiond_engine_replica_kv_cache_ratio": {(str(number),): one.kv_cache_usage for number, one in replicas},
        "captiond_engine_replica_steps_total": {(str(number),): one.steps for number, one in replicas},
    }


def _of_streams(routes: Sequence[Route]) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the readings of live streams."""
    found = {(route.name,): route.stream for route in routes}
    streams = {place: report for place, report in found.items() if report is not None}
    return {
        "captiond_stream_connected": {place: float(one.connected) for place, one in streams.items()},
        "captiond_stream_since_timestamp_seconds": {place: one.since_ns / 1e9 for place, one in streams.items()},
        "captiond_stream_lag_windows": {place: one.lag_windows for place, one in streams.items()},
        "captiond_stream_lag_seconds": {place: one.lag_ns / 1e9 for place, one in streams.items()},
    }


def _of(counter: Counter | Gauge, source: str, **labels: str) -> int:
    (family,) = counter.collect()
    wanted = {"source": source, **labels}.items()
    return int(sum(sample.value for sample in family.samples if wanted <= sample.labels.items()))
