"""Every metric of captiond, in one table."""

from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from daemon.engine import Completion
from daemon.windows import FrameSet

_STAGE_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_Kind = TypeVar("_Kind", Counter, Gauge, Histogram)

# name, kind, labels, help: docs/operate.md names the same ones, and a test holds the two together
TABLE: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("captiond_clips_received_total", "counter", ("source",), "Clips taken from a source."),
    ("captiond_clips_done_total", "counter", ("source",), "Clips whose every window is published."),
    ("captiond_clips_rejected_total", "counter", ("source", "reason"), "Clips that ended with a rejection."),
    ("captiond_captions_total", "counter", ("source", "status"), "Windows published."),
    ("captiond_frames_substituted_total", "counter", ("source",), "Frames that the one before stands in for."),
    ("captiond_tokens_total", "counter", ("source", "kind"), "Tokens: prompt, vision and output."),
    ("captiond_stage_seconds", "histogram", ("source", "stage"), "Time of one window in a stage."),
    ("captiond_clips_in_flight", "gauge", (), "Clips being worked on."),
    ("captiond_engine_requests_in_flight", "gauge", (), "Windows that the engine holds."),
    ("captiond_in_flight_bytes", "gauge", (), "Bytes held against limits.in_flight_bytes."),
)


class Metrics:
    """The metrics of one daemon, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.clips_received = self._make(Counter, "captiond_clips_received_total")
        self.clips_done = self._make(Counter, "captiond_clips_done_total")
        self.clips_rejected = self._make(Counter, "captiond_clips_rejected_total")
        self.captions = self._make(Counter, "captiond_captions_total")
        self.frames_substituted = self._make(Counter, "captiond_frames_substituted_total")
        self.tokens = self._make(Counter, "captiond_tokens_total")
        self.stage_seconds = self._make(Histogram, "captiond_stage_seconds")
        self.clips_in_flight = self._make(Gauge, "captiond_clips_in_flight")
        self.engine_requests = self._make(Gauge, "captiond_engine_requests_in_flight")
        self.in_flight_bytes = self._make(Gauge, "captiond_in_flight_bytes")

    def _make(self, kind: type[_Kind], name: str) -> _Kind:
        _, _, labels, text = next(row for row in TABLE if row[0] == name)
        if issubclass(kind, Histogram):
            return kind(name, text, labels, registry=self.registry, buckets=_STAGE_BUCKETS_S)
        return kind(name, text, labels, registry=self.registry)

    def observe_window(self, source: str, frames: FrameSet, done: Completion) -> None:
        """Count what one answered window cost."""
        for stage, ms in (("decode", frames.decode_ms), ("queue", done.queue_ms), ("engine", done.engine_ms)):
            self.stage_seconds.labels(source, stage).observe(ms / 1000)
        for kind, tokens in (
            ("prompt", done.prompt_tokens),
            ("vision", done.vision_tokens),
            ("output", done.output_tokens),
        ):
            self.tokens.labels(source, kind).inc(tokens)
        if frames.substituted:
            self.frames_substituted.labels(source).inc(frames.substituted)
