"""OpenTelemetry's SDK, wired from the settings: sampler, resource, bounded queue, exporter.

Imported by `app.observability.tracing.start` only. Spans wait in a bounded queue and leave in
batches from a thread of their own; what the queue or the exporter loses is counted, and said once
per outage. The settings say all but what OpenTelemetry's variables say of the collector's headers
and certificates (`OTEL_EXPORTER_OTLP_HEADERS`, ...).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Tracer,
    set_span_in_context,
)

from app.observability import metrics
from app.observability.logging import get_log
from app.observability.trace_files import SpanFile

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from app.settings import Settings

log = get_log(__name__)

SCOPE = "chaos-symphony"
SAMPLED_OF = 1 << 64
MEGABYTE = 2**20
ATTRIBUTE_LENGTH_MAX = 1024


class GivenIds(IdGenerator):
    """Gives a span the identity that its maker wants; per thread."""

    def __init__(self) -> None:
        self._wanted = threading.local()

    def want(self, context: SpanContext) -> None:
        """The next span of this thread is `context`."""
        self._wanted.context = context

    def generate_span_id(self) -> int:
        """Return the wanted span id."""
        return int(self._wanted.context.span_id)

    def generate_trace_id(self) -> int:
        """Return the wanted trace id: asked for roots only."""
        return int(self._wanted.context.trace_id)


class CountingProcessor(BatchSpanProcessor):
    """A bounded queue; spans that find it full push out the oldest, which are counted."""

    def __init__(self, exporter: SpanExporter, settings: Settings) -> None:
        self._queue_max = settings.trace_queue_max
        self._full = False
        super().__init__(
            exporter,
            max_queue_size=settings.trace_queue_max,
            schedule_delay_millis=settings.trace_interval_s * 1000,
            max_export_batch_size=settings.trace_batch_max,
            export_timeout_millis=settings.trace_timeout_s * 1000,
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Extends BatchSpanProcessor.on_end: count and say what is lost."""
        # The SDK says nowhere how many wait.
        full = len(self._batch_processor._queue) >= self._queue_max
        if full:
            metrics.TRACE_SPANS.child("dropped").inc()
        if full and not self._full:
            log.warning("trace.queue_full", spans=self._queue_max)
        self._full = full
        super().on_end(span)

    def close(self, timeout_s: float) -> None:
        """Hand on what waits, for at most `timeout_s`."""
        self._batch_processor.shutdown(timeout_millis=int(timeout_s * 1000))


class ToldExporter(SpanExporter):
    """An exporter whose failures are counted, and told once until it works again."""

    def __init__(self, exporter: SpanExporter, where: str) -> None:
        self._exporter = exporter
        self._where = where
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand spans on; raises nothing."""
        why = "refused or not reached"
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            result, why = SpanExportResult.FAILURE, f"{type(error).__name__}: {error}"
        failed = result is not SpanExportResult.SUCCESS
        metrics.TRACE_SPANS.child("failed" if failed else "exported").inc(len(spans))
        if failed and not self._failing:
            log.warning("trace.export_failing", where=self._where, reason=why)
        elif self._failing and not failed:
            log.info("trace.export_works_again", where=self._where)
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Close the exporter."""
        self._exporter.shutdown()


class FileExporter(SpanExporter):
    """Writes spans to a file of this worker."""

    def __init__(self, file: SpanFile) -> None:
        self._file = file

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write one line. Raises OSError."""
        self._file.write(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the file."""
        self._file.close()


class Recorder:
    """The tracer of this process."""

    def __init__(
        self, provider: TracerProvider, ids: GivenIds, ratio: float, close_s: float
    ) -> None:
        """`close_s` bounds `close`."""
        self._provider = provider
        self._ids = ids
        self._below = round(ratio * SAMPLED_OF)
        self._close_s = close_s
        self._processor: CountingProcessor | None = None
        self._tracer: Tracer = provider.get_tracer(SCOPE)

    @property
    def provider(self) -> TracerProvider:
        """The SDK's provider, for other instrumentation of this process."""
        return self._provider

    def export_by(self, processor: CountingProcessor) -> None:
        """Hand spans to `processor`."""
        self._processor = processor
        self._provider.add_span_processor(processor)

    def samples(self, trace_id: int) -> bool:
        """Whether a trace that begins here is recorded: as TraceIdRatioBased decides."""
        return trace_id % SAMPLED_OF < self._below

    def begin(
        self,
        name: str,
        context: SpanContext,
        *,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue] | None,
        links: Sequence[Link],
        start_ns: int,
    ) -> Span:
        """Start the span `context`; it is sampled as its parent is."""
        self._ids.want(context)
        return self._tracer.start_span(
            name,
            Context() if parent is None else set_span_in_context(NonRecordingSpan(parent)),
            kind=kind,
            attributes=attributes,
            links=links,
            start_time=start_ns,
            record_exception=False,
            set_status_on_exception=False,
        )

    def close(self) -> None:
        """Hand on what waits, for a bounded time."""
        if self._processor is not None:
            self._processor.close(self._close_s)


def make_recorder(resource: Mapping[str, str], ratio: float, close_s: float = 1.0) -> Recorder:
    """Return a recorder without an exporter: its provider takes any span processor."""
    ids = GivenIds()
    limits = SpanLimits(
        max_attributes=64,
        max_events=8,
        max_links=8,
        max_attribute_length=ATTRIBUTE_LENGTH_MAX,
        max_span_attribute_length=ATTRIBUTE_LENGTH_MAX,
        max_event_attributes=8,
        max_link_attributes=8,
    )
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(ratio)),
        resource=Resource(dict(resource)),
        id_generator=ids,
        span_limits=limits,
        shutdown_on_exit=False,
    )
    return Recorder(provider, ids, ratio, close_s)


def recorder_of(settings: Settings) -> Recorder:
    """Return the recorder that the settings ask for; its provider is OpenTelemetry's global one."""
    recorder = make_recorder(
        {
            "service.name": SCOPE,
            "service.namespace": settings.namespace,
            "service.instance.id": settings.worker_id,
            "symphony.role": settings.role,
            "symphony.incarnation": settings.incarnation,
        },
        settings.trace_sample_ratio,
        settings.trace_timeout_s,
    )
    recorder.export_by(CountingProcessor(_exporter_of(settings), settings))
    trace.set_tracer_provider(recorder.provider)
    log.info("trace.recording", exporter=settings.trace_exporter, ratio=settings.trace_sample_ratio)
    return recorder


def _exporter_of(settings: Settings) -> SpanExporter:
    if settings.trace_exporter == "file":
        file = SpanFile(
            settings.trace_dir,
            f"{settings.worker_id}-{settings.incarnation}",
            file_max_bytes=settings.trace_file_max_mb * MEGABYTE,
            dir_max_bytes=settings.trace_dir_max_mb * MEGABYTE,
        )
        return ToldExporter(FileExporter(file), str(file.path))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    otlp = OTLPSpanExporter(settings.trace_endpoint, timeout=settings.trace_timeout_s)
    return ToldExporter(otlp, settings.trace_endpoint)
