"""Spans of clips and windows, through OpenTelemetry.

A clip's span continues the trace that the clip came with (W3C ``traceparent``), and its captions carry that trace on.
Without a collector in the environment the spans are no-ops, and the trace context passes through unchanged.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.propagate import extract, get_global_textmap
from opentelemetry.util.types import AttributeValue

from connectors.contract import Clip
from connectors.errors import ConfigurationError, Poison, Transient
from daemon import __version__
from daemon.engines.contract import Completion
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet

_COLLECTOR = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_CARRIED = frozenset(get_global_textmap().fields)  # what a trace that a clip came with is read from
_NOBODY = trace.NoOpTracer()
_TRACER: trace.Tracer = _NOBODY  # who records spans: where nobody does, they cost nothing
_NO_SPAN = nullcontext(trace.INVALID_SPAN)


def set_up() -> None:
    """Export spans to the collector that OpenTelemetry's own variables name, over OTLP on HTTP; else do nothing."""
    _export()
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        global _TRACER
        _TRACER = trace.get_tracer("captiond", __version__)


def _export() -> None:
    named = [os.environ[name] for name in _COLLECTOR if os.environ.get(name)]
    if not named or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    if protocol != "http/protobuf":
        raise ConfigurationError(f"{protocol!r} is not spoken, only http/protobuf", path="OTEL_EXPORTER_OTLP_PROTOCOL")
    mine = Resource({SERVICE_NAME: "captiond", SERVICE_VERSION: __version__})
    provider = TracerProvider(resource=Resource.create().merge(mine).merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def clip_span(clip: Clip, first_window: int) -> AbstractContextManager[None]:
    """Hold the span of one delivery, from its slot to its end; a rejection is an error with its reason."""
    is_traced = _TRACER is not _NOBODY or _CARRIED & clip.attributes.keys()
    return _clip_span(clip, first_window) if is_traced else nullcontext()


@contextmanager
def _clip_span(clip: Clip, first_window: int) -> Iterator[None]:
    about: dict[str, str | int] = {
        "captiond.clip_id": clip.clip_id,
        "captiond.source": clip.source,
        "captiond.first_window": first_window,
        "captiond.clip_bytes": clip.media.size_bytes,
    }
    arrived = extract(clip.attributes)
    with _TRACER.start_as_current_span("caption clip", context=arrived, kind=trace.SpanKind.CONSUMER, attributes=about):
        yield


def fault(error: Poison | Transient) -> None:
    """Note on the current span what went wrong."""
    span = trace.get_current_span()
    span.set_attribute("captiond.reason", error.reason)
    if isinstance(error, Poison):
        span.set_status(trace.StatusCode.ERROR, error.reason)
    else:
        span.add_event("try again", {"captiond.reason": error.reason})


def span(name: str) -> AbstractContextManager[trace.Span]:
    """Hold a child span of the clip's, where somebody records it: plan, describe window, publish."""
    if _TRACER is _NOBODY:
        return _NO_SPAN
    clip = trace.get_current_span()
    return _TRACER.start_as_current_span(name) if clip.is_recording() else nullcontext(clip)


def described(current: trace.Span, model: str, prompt: Prompt, frames: FrameSet, done: Completion) -> None:
    """Note on a window's span what it cost, and by OpenTelemetry's gen_ai conventions what was asked and answered."""
    if current.is_recording():
        current.set_attributes(
            {
                "captiond.window": frames.window.index,
                "captiond.frames": len(frames.pts_ns),
                "captiond.decode_ms": frames.decode_ms,
                "captiond.render_queue_ms": done.render_queue_ms,
                "captiond.render_ms": done.render_ms,
                "captiond.queue_ms": done.queue_ms,
                "captiond.engine_ms": done.engine_ms,
            }
        )
        current.set_attributes({**_asked(model, prompt), **_answered(model, done)})


def _asked(model: str, prompt: Prompt) -> Mapping[str, AttributeValue]:
    """Return what was asked for; sampling settings that are left to the model's own file are not known here."""
    settings: dict[str, AttributeValue | None] = {
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "top_k": prompt.top_k or None,
        "presence_penalty": prompt.presence_penalty or None,
        "frequency_penalty": prompt.frequency_penalty or None,
        "seed": prompt.seed,
    }
    told = {name: value for name, value in settings.items() if value is not None and name not in prompt.from_model}
    about: dict[str, AttributeValue] = {f"gen_ai.request.{name}": value for name, value in told.items()}
    about |= {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": prompt.max_tokens,
        "gen_ai.output.type": "json" if prompt.form is not None and prompt.form.kind == "schema" else "text",
    }
    if prompt.stop:
        about["gen_ai.request.stop_sequences"] = prompt.stop
    return about if prompt.name is None else {**about, "gen_ai.prompt.name": prompt.name}


def _answered(model: str, done: Completion) -> Mapping[str, AttributeValue]:
    ended = "repetition" if done.looping else "content_filter" if done.refusal else "stop"
    about: dict[str, AttributeValue] = {
        "gen_ai.provider.name": done.origin.provider,
        "gen_ai.response.model": done.origin.model or model,
        "gen_ai.response.finish_reasons": ("length" if done.truncated else ended,),
        "gen_ai.usage.input_tokens": done.prompt_tokens,
        "gen_ai.usage.output_tokens": done.output_tokens,
    }
    if done.origin.answer:
        about["gen_ai.response.id"] = done.origin.answer
    if done.reasoning_tokens:
        about["gen_ai.usage.reasoning.output_tokens"] = done.reasoning_tokens
    if done.origin.server:
        server = urlsplit(done.origin.server)
        about["server.address"] = server.hostname or ""
        about["server.port"] = server.port or (443 if server.scheme == "https" else 80)
    return about
