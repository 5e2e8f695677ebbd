"""Every metric of captiond, in one table.

The pipeline counts as it goes; what is a state rather than an event (queues, bytes held, the engine's own figures) is
read from the running parts when somebody asks, by the function given to :meth:`Metrics.read_from`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from connectors.contract import Caption
from daemon.engines.contract import Completion
from daemon.windows import FrameSet

_STAGE_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_Kind = TypeVar("_Kind", Counter, Gauge, Histogram)

Readings = Mapping[str, Mapping[tuple[str, ...], float]]  # name of a row -> its labels' values -> its value


@dataclass(frozen=True, slots=True)
class Row:
    """One metric. With ``read`` its value is asked for at each scrape; else the pipeline counts it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str
    read: bool = False


# docs/operate.md names the same ones, and a test holds the two together
TABLE: tuple[Row, ...] = (
    Row("captiond_clips_received_total", "counter", ("source",), "Clips taken from a source."),
    Row("captiond_clip_bytes_total", "counter", ("source",), "Encoded bytes of the clips taken from a source."),
    Row("captiond_clips_done_total", "counter", ("source",), "Clips whose every window is published."),
    Row("captiond_clips_rejected_total", "counter", ("source", "reason"), "Clips that ended with a rejection."),
    Row("captiond_clip_retries_total", "counter", ("source", "reason"), "Attempts at a clip that are made again."),
    Row("captiond_captions_total", "counter", ("source", "status"), "Windows published."),
    Row("captiond_windows_unchanged_total", "counter", ("source",), "Windows that the engine was not asked about."),
    Row("captiond_tokens_saved_total", "counter", ("source", "kind"), "Tokens that asking about them would have cost."),
    Row("captiond_bad_captions_ratio", "gauge", ("source", "prompt"), "Captions not good, of the last hundred."),
    Row(
        "captiond_questions_again_total",
        "counter",
        ("source", "status"),
        "Answers not good, after which it is asked again.",
    ),
    Row("captiond_frames_substituted_total", "counter", ("source",), "Frames that the one before stands in for."),
    Row("captiond_tokens_total", "counter", ("source", "kind"), "Tokens: prompt, vision and output."),
    Row("captiond_stage_seconds", "histogram", ("source", "stage"), "Time in each stage, from plan to publish."),
    Row("captiond_engine_busy_seconds_total", "counter", (), "Time in which the engine held any window.", read=True),
    Row("captiond_reloads_total", "counter", ("result",), "Reloads: applied, unchanged or refused."),
    Row("captiond_clips_waiting", "gauge", ("source",), "Clips that wait for a slot."),
    Row("captiond_clips_in_flight", "gauge", ("source",), "Clips being worked on."),
    Row("captiond_windows_waiting", "gauge", ("source",), "Decoded windows that wait for a slot of the engine."),
    Row("captiond_engine_requests_in_flight", "gauge", (), "Windows that the engine holds."),
    Row("captiond_engine_slots", "gauge", (), "Windows that keep the engine busy.", read=True),
    Row("captiond_engine_progress_total", "counter", (), "Steps and completions of the engine.", read=True),
    Row("captiond_engine_queue", "gauge", ("state",), "vLLM's own requests: running and waiting.", read=True),
    Row("captiond_engine_kv_cache_ratio", "gauge", (), "Share of vLLM's KV cache in use.", read=True),
    Row("captiond_renderers", "gauge", (), "Rendering processes that run.", read=True),
    Row("captiond_renderers_replaced_total", "counter", (), "Renderers that ended and were replaced.", read=True),
    Row("captiond_render_queue", "gauge", ("state",), "Windows waiting for a renderer, and being rendered.", read=True),
    Row("captiond_in_flight_bytes", "gauge", ("kind",), "Bytes held: clips, frames, rendered windows.", read=True),
    Row("captiond_engine_replica_requests", "gauge", ("replica",), "Requests that this replica holds.", read=True),
    Row("captiond_engine_replica_kv_cache_ratio", "gauge", ("replica",), "Share of its KV cache in use.", read=True),
    Row("captiond_engine_replica_steps_total", "counter", ("replica",), "Steps of this replica.", read=True),
    Row("captiond_in_flight_bytes_limit", "gauge", (), "limits.in_flight_bytes.", read=True),
    Row("captiond_decoders", "gauge", (), "Decoding processes that run.", read=True),
    Row(
        "captiond_hwaccel_windows_total",
        "counter",
        ("by",),
        "Windows with frames.hwaccel, by what decoded them: device or processor.",
        read=True,
    ),
    Row("captiond_sandbox_missing", "gauge", ("layer",), "Layers of the decoders' cage that are not there.", read=True),
    Row(
        "captiond_source_lag",
        "gauge",
        ("source", "topic", "partition"),
        "Clips there that are not taken yet: files in a folder, or the end of a partition less the position.",
        read=True,
    ),
    Row("captiond_source_events_total", "counter", ("source", "event"), "What a source counts by itself.", read=True),
    Row(
        "captiond_waiting", "gauge", ("edge",), "1 while this source, the sink or the engine is waited for.", read=True
    ),
    Row("captiond_source_paused", "gauge", ("source", "reason"), "1 while clips fail alike and wait.", read=True),
    Row("captiond_stream_connected", "gauge", ("source",), "1 while the stream is connected, 0 while away.", read=True),
    Row(
        "captiond_stream_since_timestamp_seconds",
        "gauge",
        ("source",),
        "When the stream was connected, or went away, in seconds since the epoch.",
        read=True,
    ),
    Row("captiond_stream_lag_windows", "gauge", ("source",), "Recorded windows without a message yet.", read=True),
    Row("captiond_stream_lag_seconds", "gauge", ("source",), "What they are of the wall clock.", read=True),
    Row("captiond_ready", "gauge", (), "1 while clips are captioned and nothing is waited for.", read=True),
    Row("captiond_restarts_total", "counter", ("ended",), "Starts after another run, by how that ended.", read=True),
    Row("captiond_build_info", "gauge", ("version", "model"), "1: the version and the model.", read=True),
)


class Metrics:
    """The metrics of one daemon, in a registry of its own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.clips_received = self._make(Counter, "captiond_clips_received_total")
        self.clip_bytes = self._make(Counter, "captiond_clip_bytes_total")
        self.clips_done = self._make(Counter, "captiond_clips_done_total")
        self.clips_rejected = self._make(Counter, "captiond_clips_rejected_total")
        self.clip_retries = self._make(Counter, "captiond_clip_retries_total")
        self.captions = self._make(Counter, "captiond_captions_total")
        self.windows_unchanged = self._make(Counter, "captiond_windows_unchanged_total")
        self.tokens_saved = self._make(Counter, "captiond_tokens_saved_total")
        self.bad_captions = self._make(Gauge, "captiond_bad_captions_ratio")
        self.questions_again = self._make(Counter, "captiond_questions_again_total")
        self.frames_substituted = self._make(Counter, "captiond_frames_substituted_total")
        self.tokens = self._make(Counter, "captiond_tokens_total")
        self.stage_seconds = self._make(Histogram, "captiond_stage_seconds")
        self.reloads = self._make(Counter, "captiond_reloads_total")
        self.clips_waiting = self._make(Gauge, "captiond_clips_waiting")
        self.clips_in_flight = self._make(Gauge, "captiond_clips_in_flight")
        self.windows_waiting = self._make(Gauge, "captiond_windows_waiting")
        self.engine_requests = self._make(Gauge, "captiond_engine_requests_in_flight")
        ProcessCollector(registry=self.registry)
        self._clock, self._requests, self._busy_since_s, self._busy_before_s = clock, 0, 0.0, 0.0
        self.engine_requests.set_function(lambda: self._requests)

    def _make(self, kind: type[_Kind], name: str) -> _Kind:
        row = next(row for row in TABLE if row.name == name)
        more: dict[str, Any] = {"buckets": _STAGE_BUCKETS_S} if kind is Histogram else {}
        made = kind(row.name, row.text, row.labels, registry=self.registry, **more)
        made.labels = cache(made.labels)  # type: ignore[method-assign]  # finding it again costs more than counting
        return made

    def read_from(self, read: Callable[[], Readings]) -> None:
        """Ask ``read`` at each scrape for the rows that are states."""
        self.registry.register(_ReadAtScrape(read))

    def total(self, counter: Counter | Gauge) -> float:
        """Return the sum over all labels."""
        (family,) = counter.collect()
        return sum(sample.value for sample in family.samples if not sample.name.endswith("_created"))

    def clip_taken(self, source: str, size_bytes: int) -> None:
        """Count a clip that is worked on from now on."""
        self.clips_received.labels(source).inc()
        self.clip_bytes.labels(source).inc(size_bytes)
        self.clips_in_flight.labels(source).inc()

    @contextmanager
    def in_engine(self) -> Iterator[None]:
        """Count a window that the engine holds, and the time in which it holds any."""
        if self._requests == 0:
            self._busy_since_s = self._clock()
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            if self._requests == 0:
                self._busy_before_s += self._clock() - self._busy_since_s

    @property
    def engine_busy_s(self) -> float:
        """The seconds so far in which the engine held any window."""
        return self._busy_before_s + (self._clock() - self._busy_since_s if self._requests else 0.0)

    @property
    def requests(self) -> int:
        """The number of windows that the engine holds now."""
        return self._requests

    @contextmanager
    def stage(self, source: str, stage: str) -> Iterator[None]:
        """Time one stage that is not part of a window's own timing."""
        begun_s = self._clock()
        try:
            yield
        finally:
            self.stage_seconds.labels(source, stage).observe(self._clock() - begun_s)

    def observe_unchanged(self, source: str, repeated: Sequence[Caption]) -> None:
        """Count a window that was not asked about, and what asking cost for the captions that it repeats."""
        self.windows_unchanged.labels(source).inc()
        for kind in ("prompt", "vision", "output"):
            self.tokens_saved.labels(source, kind).inc(sum(getattr(one.usage, f"{kind}_tokens") for one in repeated))

    def observe_window(self, source: str, frames: FrameSet, done: Completion, *, is_first: bool = True) -> None:
        """Count what one answered window cost; what its frames did, with the first of its questions alone."""
        stages = {"decode": frames.decode_ms} if is_first else {}
        stages |= {"queue": done.queue_ms, "engine": done.engine_ms}
        if done.render_ms:
            stages |= {"render_queue": done.render_queue_ms, "render": done.render_ms}
        for stage, ms in stages.items():
            self.stage_seconds.labels(source, stage).observe(ms / 1000)
        for kind, tokens in (
            ("prompt", done.prompt_tokens),
            ("vision", done.vision_tokens),
            ("output", done.output_tokens),
        ):
            self.tokens.labels(source, kind).inc(tokens)
        if frames.substituted and is_first:
            self.frames_substituted.labels(source).inc(frames.substituted)


class _ReadAtScrape(Collector):
    """The rows of the table that are read, with the values of the moment."""

    def __init__(self, read: Callable[[], Readings]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """Name nothing beforehand: the values are not there before the parts are."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield a family for each row that has a value."""
        values = self._read()
        for row in TABLE:
            if not row.read or not values.get(row.name):
                continue
            family = (CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily)(
                row.name, row.text, labels=row.labels
            )
            for labels, value in values[row.name].items():
                family.add_metric(labels, value)
            yield family
