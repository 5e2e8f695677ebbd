"""Traces go through: from the clip's own context, over its windows, to what is written and to a collector."""

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import server_attributes

from connectors.contract import Clip, Delivery
from connectors.kafka.encoder import records_of
from connectors.kafka.settings import KafkaSinkSettings
from connectors.media.bytes import BytesMedia
from connectors.memory import MemoryInbox, MemorySink
from daemon.engines.contract import Completion, Origin
from daemon.prompts.answer_form import AnswerForm
from daemon.prompts.prompt import Prompt
from daemon.telemetry import tracing
from testing.load import WINDOWS_EACH, write_load_clip
from tests.contract.progress import done
from tests.pipeline.daemon_process import FolderJob
from tests.pipeline.in_memory import house
from tests.windows_of_noise import noise

ARRIVED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Record spans in memory."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_TRACER", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


async def test_a_clips_span_continues_its_trace_and_holds_its_windows(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    write_load_clip(tmp_path / "six.mp4")
    inbox, sink = MemoryInbox(), MemorySink()
    inbox.put("six", (tmp_path / "six.mp4").read_bytes(), traceparent=ARRIVED)
    inbox.put("broken", b"no video")
    async with house(inbox, sink) as (pipeline, _):
        await pipeline.run()
    broken, clip = sorted(named(spans, "caption clip"), key=lambda span: span.status.is_ok)
    assert clip.context.trace_id == TRACE_ID
    assert clip.parent is not None
    assert clip.parent.span_id == 0x00F067AA0BA902B7
    mine = [span for span in spans.get_finished_spans() if span.parent and span.parent.span_id == clip.context.span_id]
    windows = [span for span in mine if span.name == "describe window"]
    assert sorted(span.attributes["captiond.window"] for span in windows if span.attributes) == [*range(WINDOWS_EACH)]
    assert windows[0].attributes is not None
    about = {name: value for name, value in windows[0].attributes.items() if name.startswith("gen_ai.")}
    assert about == {
        gen_ai_attributes.GEN_AI_OPERATION_NAME: gen_ai_attributes.GenAiOperationNameValues.CHAT.value,
        gen_ai_attributes.GEN_AI_PROVIDER_NAME: "fake",
        gen_ai_attributes.GEN_AI_OUTPUT_TYPE: gen_ai_attributes.GenAiOutputTypeValues.TEXT.value,
        gen_ai_attributes.GEN_AI_REQUEST_MODEL: "fake",
        gen_ai_attributes.GEN_AI_REQUEST_MAX_TOKENS: 256,
        gen_ai_attributes.GEN_AI_REQUEST_TEMPERATURE: 0.0,
        gen_ai_attributes.GEN_AI_REQUEST_TOP_P: 1.0,
        gen_ai_attributes.GEN_AI_RESPONSE_MODEL: "fake",
        gen_ai_attributes.GEN_AI_RESPONSE_FINISH_REASONS: ("stop",),
        gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS: about["gen_ai.usage.input_tokens"],
        gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS: about["gen_ai.usage.output_tokens"],
    }
    assert {"plan", "publish", "describe window"} == {span.name for span in mine}
    assert clip.status.is_ok is True
    assert broken.status.is_ok is False
    assert broken.attributes is not None
    assert broken.attributes["captiond.reason"] == "not_a_video"


async def test_a_window_says_what_was_asked_and_which_server_answered(spans: InMemorySpanExporter) -> None:
    form = AnswerForm.of_schema({"type": "object"})
    prompt = Prompt("?", name="alert", form=form, max_tokens=8, seed=3, stop=(".",), from_model=("top_p",), top_k=20)
    origin = Origin("openai", "https://models.example.org/v1", "tiny-2026", "chatcmpl-1")
    done = Completion("{", True, 10, 6, 8, reasoning_tokens=2, origin=origin)

    with tracing.clip_span(Clip("clip", "clips", BytesMedia("x", b"x"), 0), 0), tracing.span("describe window") as span:
        tracing.described(span, "tiny", prompt, noise(2, 8, 8, seed=0), done)

    (window,) = named(spans, "describe window")
    assert {name: value for name, value in (window.attributes or {}).items() if not name.startswith("captiond.")} == {
        gen_ai_attributes.GEN_AI_OPERATION_NAME: "chat",
        gen_ai_attributes.GEN_AI_PROVIDER_NAME: gen_ai_attributes.GenAiProviderNameValues.OPENAI.value,
        gen_ai_attributes.GEN_AI_OUTPUT_TYPE: gen_ai_attributes.GenAiOutputTypeValues.JSON.value,
        gen_ai_attributes.GEN_AI_PROMPT_NAME: "alert",
        gen_ai_attributes.GEN_AI_REQUEST_MODEL: "tiny",
        gen_ai_attributes.GEN_AI_REQUEST_MAX_TOKENS: 8,
        gen_ai_attributes.GEN_AI_REQUEST_TEMPERATURE: 0.0,
        gen_ai_attributes.GEN_AI_REQUEST_TOP_K: 20,
        gen_ai_attributes.GEN_AI_REQUEST_SEED: 3,
        gen_ai_attributes.GEN_AI_REQUEST_STOP_SEQUENCES: (".",),
        gen_ai_attributes.GEN_AI_RESPONSE_ID: "chatcmpl-1",
        gen_ai_attributes.GEN_AI_RESPONSE_MODEL: "tiny-2026",
        gen_ai_attributes.GEN_AI_RESPONSE_FINISH_REASONS: ("length",),
        gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS: 10,
        gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS: 8,
        gen_ai_attributes.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: 2,
        server_attributes.SERVER_ADDRESS: "models.example.org",
        server_attributes.SERVER_PORT: 443,
    }


@pytest.mark.parametrize("recorded", [True, False])
def test_what_is_published_carries_the_trace(recorded: bool, request: pytest.FixtureRequest) -> None:
    if recorded:
        request.getfixturevalue("spans")
    clip = Clip("clip", "clips", BytesMedia("clips/0/0", b"x"), 0, {"traceparent": ARRIVED})
    settings = KafkaSinkSettings(bootstrap_servers="127.0.0.1:1", topic="captions", dead_letter_topic="rejected")
    with tracing.clip_span(clip, 0):
        (record,) = records_of(done(Delivery(clip), windows=1), settings)
    version, trace_id, span_id, _ = dict(record.headers)["traceparent"].decode().split("-")
    assert (version, int(trace_id, 16)) == ("00", TRACE_ID)
    assert (span_id == "00f067aa0ba902b7") is not recorded, "a recorded span is the parent; else the clip's own is"


class Collector(HTTPServer):
    """Takes spans over OTLP on HTTP, as a real collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CollectorHandler)
        self.requests: list[ExportTraceServiceRequest] = []


class CollectorHandler(BaseHTTPRequestHandler):
    """Parses what is posted."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            raise NotImplementedError
        assert isinstance(self.server, Collector)
        assert self.path == "/v1/traces"
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_daemon_sends_its_spans_to_the_collector_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector()
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    job = FolderJob(tmp_path)
    write_load_clip(job.inbox / "six.mp4")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    job.run_once()
    collector.shutdown()
    collector.server_close()
    (request,) = collector.requests
    (resource,) = request.resource_spans
    attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert attributes["service.name"] == "captiond"
    names = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert names.count("describe window") == WINDOWS_EACH
    assert names.count("caption clip") == 1


def test_a_span_that_nobody_records_costs_nothing() -> None:
    clip = Clip("clip", "clips", BytesMedia("x", b"x"), 0)

    assert tracing.span("plan") is tracing.span("publish")
    assert type(tracing.clip_span(clip, 0)) is nullcontext
