"""Spans of jobs on dead letters: a job is a trace of its own, what it sends is of others.

A letter that is sent back goes on with its own trace, below the message that was dead-lettered; the
span of its sending is linked to the job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import trace_context
from app.messages import deadletter
from app.observability import tracing
from app.observability.logging import get_log
from app.observability.messaging import log_fields, record_send
from app.observability.tracing import SpanKind
from app.redrive.record import stored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.db.dead_letter_jobs import Job
    from app.db.deadletters import DeadLetter
    from app.messages import Output

log = get_log(__name__)


def trace_of(job: Job) -> str:
    """Return the context of a job: the same in every worker that does a part of it."""
    span_id = trace_context.span_of(job.id, "job")
    trace_id = trace_context.trace_id_of(trace_context.derived(job.id, span_id))
    return trace_context.child(tracing.begin(trace_id=trace_id), span_id)


def record_job(job: Job, start_ns: int) -> None:
    """Record what this worker did of a job."""
    tracing.record(
        f"dead letters {job.kind}",
        trace_of(job),
        kind=SpanKind.INTERNAL,
        start_ns=start_ns,
        attributes={
            "symphony.job": job.id,
            "symphony.operator": job.requested_by,
            "symphony.letters": job.total,
        },
    )


def record_sent(
    job: Job, letters: Sequence[DeadLetter], sent: Mapping[str, Output], start_ns: int
) -> None:
    """Tell of the letters that were sent back: `sent` are records by letter id."""
    for letter in letters:
        output = sent.get(letter.id)
        if output is None:
            continue
        fields = log_fields(output.topic, output.key, output.headers)
        log.info("redrive.sent", letter=letter.id, **fields)
        context = deadletter.traceparent_of(output.headers)
        if not tracing.wants(context):
            continue
        before = deadletter.traceparent_of(stored(letter).headers)
        link = trace_of(job)
        record_send(
            output,
            context,
            before,
            start_ns=start_ns,
            operation="redrive",
            extra={tracing.REDRIVES: deadletter.read_failure(output.headers).redrives},
            links=(link,) if trace_context.is_sampled(link) else (),
        )
