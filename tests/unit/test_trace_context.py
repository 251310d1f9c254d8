"""Facts about trace contexts as text."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app import trace_context
from app.trace_context import (
    child,
    continued,
    derived,
    is_sampled,
    parse,
    processing_span,
    read,
    read_state,
    span_id_of,
    span_of,
    trace_id_of,
)

pytestmark = pytest.mark.unit

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"
EVENT = "2d8e4f2a-3b9c-5c7a-9f3e-8b4d3c5e6f7a"

HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
NEARLY = st.builds(
    lambda version, one, other, flags, rest: f"{version}-{one}-{other}-{flags}{rest}",
    st.sampled_from(["00", "01", "cc", "ff", "0", "AA"]),
    st.one_of(HEX, st.just("0" * 32), st.just("A" * 32), st.just("a" * 31)),
    st.one_of(HEX.map(lambda text: text[:16]), st.just("0" * 16)),
    st.sampled_from(["00", "01", "02", "03", "ff", "1", "zz"]),
    st.sampled_from(["", "-what-comes-later", "x", " ", "\n"]),
)


@given(st.one_of(NEARLY, st.text(max_size=80)))
def test_what_is_read_is_what_opentelemetry_reads(text: str) -> None:
    """The SDK's own propagator is the oracle, but for blanks around, which we do not take."""
    carrier = {"traceparent": text}
    found = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier))
    expected = found.get_span_context()
    mine = parse(text)
    if not expected.is_valid or text != text.strip():
        assert mine == ""
        return
    assert trace_id_of(mine) == f"{expected.trace_id:032x}"
    assert span_id_of(mine) == f"{expected.span_id:016x}"
    assert is_sampled(mine) == expected.trace_flags.sampled


@given(st.one_of(NEARLY, st.text(max_size=80)))
def test_reading_is_reading_again(text: str) -> None:
    """What was read once is canonical: bytes and text of it are read as themselves."""
    mine = parse(text)
    assert parse(mine) == mine
    assert read(mine.encode()) == mine
    assert read(text.encode()) == mine


@given(st.binary(max_size=80))
def test_no_bytes_are_too_strange(raw: bytes) -> None:
    """Reading a header raises nothing."""
    assert read(raw) in ("", parse(raw.decode("ascii", "replace")))
    assert read(None) == ""


@given(st.uuids(), st.text(max_size=20))
def test_spans_of_messages_are_valid_and_always_the_same(event: UUID, what: str) -> None:
    """A span id has 16 hex digits and is not zero, which W3C forbids."""
    span_id = span_of(str(event), what)
    assert len(span_id) == 16
    assert int(span_id, 16) != 0
    assert span_of(str(event), what) == span_id
    assert parse(child(VALID, span_id)) == f"00-{TRACE}-{span_id}-01"


def test_one_event_has_many_spans() -> None:
    """Its message, its processing by each consumer at each delivery: all are different."""
    spans = {
        span_of(EVENT),
        span_of(EVENT, "again\x001"),
        span_of(EVENT, "again\x002"),
        *(processing_span(who, EVENT, number) for who in ("a", "b") for number in (0, 1)),
    }
    assert len(spans) == 7
    assert span_of(EVENT) == "9f3e8b4d3c5e6f7a"
    assert int(span_of("0" * 36), 16) != 0
    assert int(span_of(str(UUID(int=0))), 16) != 0


def test_a_child_keeps_trace_and_flags() -> None:
    """Only the span changes; a derived context is unsampled and the same for one correlation."""
    assert child(VALID, "1" * 16) == f"00-{TRACE}-{'1' * 16}-01"
    made = derived("request-1", "2" * 16)
    assert trace_id_of(made) == trace_id_of(derived("request-1", "3" * 16))
    assert trace_id_of(made) != trace_id_of(derived("request-2", "2" * 16))
    assert not is_sampled(made)
    assert parse(made) == made
    assert continued(VALID, "request-1", "1" * 16) == child(VALID, "1" * 16)
    assert continued("", "request-1", "2" * 16) == made


@pytest.mark.parametrize("text", ["", "00", VALID[:-1], trace_context.derived("", "0" * 16)])
def test_nothing_is_not_sampled(text: str) -> None:
    """Empty and cut contexts are harmless."""
    assert not is_sampled(text)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (b"vendor=value", True),
        (b"a=1, b@c=2,d/e=x y", True),
        (b"a=", True),
        (b"", False),
        (b"no member", False),
        (b"A=1", False),
        (b"a=1\nb=2", False),
        (b"a=\xc3\xa9", False),
        (b"a=" + b"x" * 600, False),
        (b",".join(b"k%d=1" % number for number in range(33)), False),
    ],
)
def test_vendors_state_is_kept_or_dropped_whole(raw: bytes, kept: bool) -> None:
    """As it came, if it is what W3C allows and belongs to a trace."""
    assert read_state(raw, VALID) == (raw.decode() if kept else "")
    assert read_state(raw, "") == ""


@given(st.binary(max_size=700))
def test_no_state_is_too_strange(raw: bytes) -> None:
    """Reading it raises nothing, and what is kept is short printable ASCII."""
    text = read_state(raw, VALID)
    assert text == "" or (len(text) <= 512 and text.isprintable() and text.isascii())
