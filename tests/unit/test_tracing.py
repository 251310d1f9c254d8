"""Facts about recording spans: identity, sampling, exporters and their failures; no worker."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from app.errors import InvalidSettings
from app.messages import Cause, OrderCancel, OrderReviewed, emit
from app.observability import metrics, trace_files, trace_sdk, tracing
from app.observability.tracing import SpanKind
from app.settings_model import Settings
from app.topics import ORDER_CANCEL, ORDER_REVIEWED
from app.trace_context import child, is_sampled, span_id_of, trace_id_of
from chaos.console.trace import _nothing, find, told, tree
from tests.waiting import wait_until
from web.messages import committed

pytestmark = pytest.mark.unit

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = f"{TRACE[:-2]}00"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What is recorded, at once."""
    exporter = InMemorySpanExporter()
    recorder = trace_sdk.make_recorder({"service.name": "test"}, 1.0)
    recorder.provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.install(recorder)
    yield exporter
    tracing.install(None)


def record(context: str, **more: Any) -> None:
    """Record a span of one millisecond."""
    given = {"kind": SpanKind.CONSUMER, "start_ns": 1_000_000, "end_ns": 2_000_000, **more}
    tracing.record("process x", context, **given)


def settings(tmp_path: Path, **changes: Any) -> Settings:
    """Settings of a worker that records."""
    given: dict[str, Any] = {"role": "payment", "incarnation": "abc", "trace_dir": tmp_path}
    return Settings(**{**given, "trace_interval_s": 0.05, **changes})


def test_a_span_has_the_identity_of_its_context(spans: InMemorySpanExporter) -> None:
    """Trace, span, parent, times and error are as given; a repeat is the same span."""
    for _ in range(2):
        record(TRACE, parent="1" * 16, attributes={"a": 1}, error="poison", message="no")
    first, again = spans.get_finished_spans()
    for span in (first, again):
        assert span.context is not None
        assert span.parent is not None
        assert f"{span.context.trace_id:032x}" == trace_id_of(TRACE)
        assert f"{span.context.span_id:016x}" == span_id_of(TRACE)
        assert span.parent.span_id == int("1" * 16, 16)
        assert (span.start_time, span.end_time) == (1_000_000, 2_000_000)
        assert dict(span.attributes or {}) == {"a": 1, "error.type": "poison"}
        assert span.status.description == "no"


def test_an_unsampled_trace_records_nothing(spans: InMemorySpanExporter) -> None:
    """Not as a root, not as a child, and no context is taken over for it."""
    record(UNSAMPLED)
    record(UNSAMPLED, parent="1" * 16)
    with tracing.within(UNSAMPLED):
        assert tracing.current() == ""
        assert tracing.current_trace_id() == ""
    assert not tracing.wants(UNSAMPLED)
    assert spans.get_finished_spans() == ()


def test_the_context_of_a_task_is_known_while_it_lasts(spans: InMemorySpanExporter) -> None:
    """Within a sampled context its trace id is there for exemplars; afterwards it is not."""
    assert tracing.current_trace_id() == ""
    with tracing.within(TRACE):
        assert tracing.current() == TRACE
        assert tracing.current_trace_id() == trace_id_of(TRACE)
    assert tracing.current_trace_id() == ""


@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "unsampled"])
def test_every_message_of_a_request_is_counted_and_recorded(
    spans: InMemorySpanExporter, sampled: bool
) -> None:
    """An order that is rejected at once has two; their spans stand below the request's."""
    parent = TRACE if sampled else UNSAMPLED
    order_id, now = str(uuid4()), datetime.now(UTC)
    cause = Cause(order_id, "request-1", parent)
    outputs = [
        emit(cause, topic, body, event_id=str(uuid4()), now=now, source="test/web")
        for topic, body in (
            (ORDER_CANCEL, OrderCancel(order_id=order_id, reason="", requested_by="customer")),
            (ORDER_REVIEWED, OrderReviewed(order_id=order_id, approved=False, reviewed_by="r")),
        )
    ]
    before = [metrics.OUTBOX_WRITTEN.child(one.topic)._value.get() for one in outputs]
    committed(outputs, parent, 1_000_000)
    after = [metrics.OUTBOX_WRITTEN.child(one.topic)._value.get() for one in outputs]
    assert after == [count + 1 for count in before]
    found = [(one.name, one.parent and one.parent.span_id) for one in spans.get_finished_spans()]
    expected = [(f"create {one.topic}", int(span_id_of(TRACE), 16)) for one in outputs]
    assert found == (expected if sampled else [])


def test_switched_off_nothing_is_recorded_and_a_sampled_trace_passes_through() -> None:
    """The default: `on()` is False, and a client's trace keeps its flag."""
    assert not tracing.on()
    record(TRACE)
    with tracing.within(TRACE):
        assert tracing.current_trace_id() == ""
    assert trace_id_of(tracing.begin(TRACE)) == trace_id_of(TRACE)
    assert is_sampled(tracing.begin(TRACE))
    assert not is_sampled(tracing.begin())


def test_switched_off_the_sdk_is_not_even_loaded() -> None:
    """A worker without an exporter pays for the API alone."""
    program = (
        "import sys; from app.factory import create_app; from app.settings_model import Settings;"
        " from app.observability import tracing; s = Settings(role='payment');"
        " create_app(s); tracing.start(s);"
        " print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


@given(st.integers(min_value=1, max_value=2**128 - 1), st.floats(0, 1))
def test_a_new_trace_is_sampled_as_opentelemetry_would(trace_id: int, ratio: float) -> None:
    """By the low 64 bits of its id, so every service decides the same."""
    recorder = trace_sdk.make_recorder({}, ratio)
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "x").decision
    assert recorder.samples(trace_id) == (theirs is Decision.RECORD_AND_SAMPLE)


def test_files_are_otlp_json_and_are_read_again(tmp_path: Path) -> None:
    """A line a batch; what a killed worker left unfinished is passed over, nothing else is."""
    tracing.install(trace_sdk.recorder_of(settings(tmp_path, trace_exporter="file")))
    own = child(TRACE, "2" * 16)
    record(TRACE, attributes={"symphony.order_id": "o", "n": 1, "x": 0.5, "b": True})
    record(own, parent=span_id_of(TRACE), links=[TRACE], error="gateway_timeout", message="late")
    tracing.stop()
    (path,) = tmp_path.glob("*.jsonl")
    assert path.name == "payment-1-abc.jsonl"
    with path.open("ab") as file:
        file.write(b'{"resourceSpans": [{"resource"')
    first, second = trace_files.read(tmp_path)
    assert (first.name, first.kind, first.worker, first.role) == (
        "process x", "consumer", "payment-1", "payment",
    )  # fmt: skip
    assert first.attributes == {"symphony.order_id": "o", "n": 1, "x": 0.5, "b": True}
    assert (second.parent_id, second.error, second.message) == (
        span_id_of(TRACE), "gateway_timeout", "late",
    )  # fmt: skip
    assert second.links == ((trace_id_of(TRACE), span_id_of(TRACE)),)
    (root,) = tree(list(trace_files.merge(trace_files.read(tmp_path)).values()))
    lines = list(told([root]))
    assert "2 spans" in lines[0]
    assert "1 failed" in lines[0]
    assert "ERROR gateway_timeout: late" in lines[2]


@pytest.fixture
def made() -> Sequence[ReadableSpan]:
    """A finished span."""
    recorder = trace_sdk.make_recorder({}, 1.0)
    exporter = InMemorySpanExporter()
    recorder.provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.install(recorder)
    record(TRACE)
    tracing.install(None)
    return exporter.get_finished_spans()


def test_a_file_that_goes_while_room_is_made_is_passed_over(tmp_path: Path) -> None:
    """Several workers start at once, and each turns over and deletes: none fails to start."""
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    old = tmp_path / "web-1-old.jsonl"
    old.write_bytes(b"x" * 4000)
    trace_files.SpanFile(tmp_path, "web-1-new", file_max_bytes=4000, dir_max_bytes=3000).close()
    assert not old.exists()


def test_a_failed_turn_over_loses_one_write_at_most(
    tmp_path: Path, made: Sequence[ReadableSpan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is opened again; one that another worker has deleted is no failure at all."""

    def refuse(*_: Any) -> None:
        raise PermissionError

    file = trace_files.SpanFile(tmp_path, "web-1", file_max_bytes=2, dir_max_bytes=3000)
    file.write(made)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refuse)
        with pytest.raises(PermissionError):
            file.write(made)
    file.write(made)
    file.path.unlink()
    file.write(made)
    file.close()
    assert len(list(trace_files.read(tmp_path))) == 2


def test_a_file_is_turned_over_and_old_files_go(
    tmp_path: Path, made: Sequence[ReadableSpan]
) -> None:
    """The newest spans are kept within the bounds."""
    old = tmp_path / "web-1-old.jsonl"
    old.write_bytes(b"x" * 4000)
    file = trace_files.SpanFile(tmp_path, "web-1-new", file_max_bytes=4000, dir_max_bytes=3000)
    assert not old.exists()
    for _ in range(40):
        file.write(made)
    file.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert sum(sizes) <= 4000


def test_a_directory_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    """Before the worker starts, not at the first span."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSettings, match=r"trace_dir .* cannot be written"):
        tracing.start(settings(tmp_path / "file", trace_exporter="file"))
    assert not tracing.on()


class Held(SpanExporter):
    """An exporter that does not come back before it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Wait."""
        self.go.wait(30)
        return SpanExportResult.SUCCESS


def test_a_slow_collector_holds_nobody_and_the_loss_is_counted(tmp_path: Path) -> None:
    """The queue is bounded; recording takes no longer because it is full."""
    held = Held()
    given = settings(tmp_path, trace_queue_max=8, trace_batch_max=2)
    recorder = trace_sdk.make_recorder({}, 1.0, 0.1)
    recorder.export_by(trace_sdk.CountingProcessor(trace_sdk.ToldExporter(held, "x"), given))
    tracing.install(recorder)
    before = metrics.TRACE_SPANS.child("dropped")._value.get()
    began = time.monotonic()
    for _ in range(100):
        record(TRACE)
    dropped = metrics.TRACE_SPANS.child("dropped")._value.get() - before
    tracing.stop()
    lasted = time.monotonic() - began
    held.go.set()
    assert 88 <= dropped <= 92
    assert lasted < 10


def test_an_absent_collector_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However many batches fail; their spans are counted, and nothing is raised."""
    given = settings(
        tmp_path,
        trace_exporter="otlp",
        trace_endpoint="http://127.0.0.1:9/v1/traces",
        trace_batch_max=1,
        trace_timeout_s=0.3,
    )
    failed = metrics.TRACE_SPANS.child("failed")
    before = failed._value.get()
    tracing.install(trace_sdk.recorder_of(given))
    for _ in range(3):
        record(TRACE)
    wait_until(lambda: failed._value.get() - before >= 3, timeout_s=30, what="three failures")
    tracing.stop()
    said = [one.message for one in caplog.records if one.message.startswith("trace.export")]
    assert said == ["trace.export_failing"]


class Collector(BaseHTTPRequestHandler):
    """Takes OTLP over HTTP."""

    def do_POST(self) -> None:
        """Keep the body."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, self.headers["Content-Type"], body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_a_collector_gets_spans_by_otlp(tmp_path: Path) -> None:
    """Protobuf over HTTP, with the resource of the worker."""
    server = HTTPServer(("127.0.0.1", 0), Collector)
    taken: list[tuple[str, str, bytes]] = []
    server.taken = taken  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
    tracing.install(
        trace_sdk.recorder_of(settings(tmp_path, trace_exporter="otlp", trace_endpoint=endpoint))
    )
    record(TRACE)
    tracing.stop()
    server.shutdown()
    server.server_close()
    ((path, media, body),) = taken
    assert (path, media) == ("/v1/traces", "application/x-protobuf")
    assert bytes.fromhex(trace_id_of(TRACE)) in body
    assert b"payment-1" in body


def test_the_command_says_why_there_is_nothing(tmp_path: Path) -> None:
    """Off, not sampled, or not there any more: each with what to do."""
    assert "this lab records no traces: turn it on: `symphony up --trace`" in _nothing(
        tmp_path, "o", TRACE
    )
    (tmp_path / "web-1-a.jsonl").write_text("")
    assert "was not sampled" in _nothing(tmp_path, "o", UNSAMPLED)
    assert "no span of order o" in _nothing(tmp_path, "o", TRACE)
    assert find(tmp_path, "o", trace_id_of(TRACE)) == []


def test_a_span_without_its_parent_is_shown_and_marked(tmp_path: Path) -> None:
    """A killed worker may have taken a parent with it; the rest of the tree is there."""
    tracing.install(trace_sdk.recorder_of(settings(tmp_path, trace_exporter="file")))
    about = {"symphony.order_id": "o"}
    record(child(TRACE, "2" * 16), parent="1" * 16, attributes=about)
    for _ in range(2):
        record(child(TRACE, "3" * 16), parent="2" * 16, attributes=about)
    tracing.stop()
    (roots,) = find(tmp_path, "o", trace_id_of(TRACE))
    lines = list(told(roots))
    assert "2 spans" in lines[0]
    assert "its parent was not recorded" in lines[1]
    assert "repeated 1x" in lines[2]
