"""One order, one trace, from the request to the redrive; and every line of every log is a record.

On the lab of the demos: an order that was retried, dead-lettered and redriven is there after the
demo of the dead letters, else it is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.messages import Barrier
from app.observability import trace_files
from app.topics import CATALOGUE
from app.trace_context import is_sampled, parse, span_id_of, trace_id_of
from chaos import records
from chaos.console.trace import Node, find
from chaos.demo import dead_letters
from chaos.demo.script import Script, Stage
from chaos.lab.plan import LabFiles
from chaos.records import Record
from tests.e2e.commands import symphony
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

PATIENCE_S = 120.0
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
WHOLE = {
    "POST /api/orders",
    "create order.created",
    "send order.created",
    "process order.created",
    "POST charge",
    "send retry.1s",
    "process retry.1s",
    "send payment.requested.dlt",
    "process payment.requested.dlt",
    "redrive payment.requested",
    "process inventory.commit",
    "process order.status_changed",
}
ALWAYS = {"ts", "level", "event", "logger", "role", "worker"}


@pytest.fixture(scope="module")
def redriven(story_stage: Stage) -> str:
    """An order that was retried, dead-lettered, redriven and completed."""
    order_id = _redriven(story_stage)
    if order_id is None:
        dead_letters.play(story_stage, Script(lambda _: None))
        wait_until(lambda: _redriven(story_stage), timeout_s=PATIENCE_S, what="a redrive's span")
        order_id = _redriven(story_stage)
    assert order_id is not None
    return order_id


def _redriven(stage: Stage) -> str | None:
    """The newest completed order with a span of its redrive."""
    found = [
        (span.start_ns, str(span.attributes["symphony.order_id"]))
        for span in trace_files.read(LabFiles(stage.target.lab_dir).traces)
        if span.name == "redrive payment.requested"
    ]
    for _, order_id in sorted(found, reverse=True):
        saga = stage.saga(order_id)
        if saga is not None and saga["state"] == "COMPLETED":
            return order_id
    return None


def nodes(roots: list[Node]) -> Iterator[Node]:
    """Every span of a tree."""
    for node in roots:
        yield node
        yield from nodes(node.children)


def messages_of(stage: Stage, order_id: str) -> list[Record]:
    """Every record of the order on every topic of messages."""
    found = records.read(stage.target.bootstrap, CATALOGUE)
    return [one for one in found if one.key == order_id.encode()]


def test_an_order_is_one_tree(story_stage: Stage, redriven: str) -> None:
    """One root, every parent there, through retry, dead letter and redrive; later tries are linked
    to the first, and the redrive to the operator's job."""
    traces = LabFiles(story_stage.target.lab_dir).traces
    saga = story_stage.api.get(f"/api/sagas/{redriven}")
    trace_id = trace_id_of(saga["traceparent"])

    def whole() -> bool:
        found = list(nodes(find(traces, redriven, trace_id)[0]))
        states = {one.span.attributes.get("symphony.saga_state") for one in found}
        return {one.span.name for one in found} >= WHOLE and "COMPLETED" in states

    wait_until(whole, timeout_s=PATIENCE_S, what="all spans of the order")
    (root,) = find(traces, redriven, trace_id)[0]
    every = list(nodes([root]))
    assert root.span.name == "POST /api/orders"
    assert not [one.span.name for one in every if one.orphan]
    assert {one.span.trace_id for one in every} == {trace_id}
    known = {(one.span.trace_id, one.span.span_id) for one in every}
    again = [one.span for one in every if one.span.attributes.get("symphony.attempt")]
    assert any(set(span.links) & known for span in again if span.kind == "consumer")
    failed = [one.span for one in every if one.span.error]
    assert {span.error for span in failed} & {"gateway_unavailable", "breaker_open"}
    (redrive,) = [one.span for one in every if one.span.name == "redrive payment.requested"]
    jobs = [
        span for span in trace_files.read(traces) if (span.trace_id, span.span_id) in redrive.links
    ]
    assert [span.name for span in jobs] == ["dead letters redrive"]


def test_every_message_names_one_recorded_span(story_stage: Stage, redriven: str) -> None:
    """Exactly one traceparent a message, on every topic; its span is in the order's tree."""
    saga = story_stage.api.get(f"/api/sagas/{redriven}")
    traces = LabFiles(story_stage.target.lab_dir).traces
    roots = find(traces, redriven, trace_id_of(saga["traceparent"]))[0]
    spans = {one.span.span_id for one in nodes(roots)}
    found = messages_of(story_stage, redriven)
    assert {one.topic for one in found} >= {"retry.1s", "payment.requested.dlt", "order.created"}
    for one in found:
        (header,) = [value for name, value in one.headers if name == "traceparent"]
        context = parse((header or b"").decode())
        assert trace_id_of(context) == trace_id_of(saga["traceparent"]), one.topic
        assert is_sampled(context), one.topic
        assert span_id_of(context) in spans, one.topic


def test_every_message_of_every_order_has_one_traceparent(story_stage: Stage) -> None:
    """Whatever the demos did before. The auditor's barriers are nobody's trace."""
    for one in records.read(story_stage.target.bootstrap, CATALOGUE):
        kind = dict(one.headers).get("ce_type")
        if kind is not None and kind.decode() != Barrier.TYPE:
            count = sum(name == "traceparent" for name, _ in one.headers)
            assert count == 1, (one.topic, one.partition, one.offset)


def test_the_command_prints_the_tree(story_stage: Stage, redriven: str) -> None:
    """For people and for machines; an unknown order and bad ids are said."""
    done = symphony(story_stage, "trace", redriven)
    assert done.returncode == 0, done.stderr
    for name in WHOLE:
        assert name in done.stdout
    assert re.search(r"attempt 1, follows span [0-9a-f]{16}, ERROR ", done.stdout)
    assert "its parent was not recorded" not in done.stdout.split("\n\n")[0]
    found = json.loads(symphony(story_stage, "trace", redriven, "--json").stdout)
    assert found["orderId"] == redriven
    assert found["traces"][0]["spans"][0]["name"] == "POST /api/orders"
    unknown = symphony(story_stage, "trace", "00000000-0000-7000-8000-000000000000")
    assert unknown.returncode != 0
    assert "there is no order" in unknown.stderr


def test_an_unsampled_trace_records_nothing(story_stage: Stage) -> None:
    """The flag of whoever began the trace is obeyed, vendors' state goes through, and the command
    says what became of it."""
    body = {"customerId": "ada", "total": "5.00", "currency": "EUR"}
    given = {"traceparent": UNSAMPLED, "tracestate": "vendor=1"}
    order = story_stage.api.post("/api/orders", body, given)["orderId"]
    wait_until(
        lambda: (story_stage.in_state(order, "COMPLETED") or {}).get("state") == "COMPLETED",
        timeout_s=PATIENCE_S,
        what="the order's completion",
    )
    for one in messages_of(story_stage, order):
        (header,) = [value for name, value in one.headers if name == "traceparent"]
        assert trace_id_of((header or b"").decode()) == trace_id_of(UNSAMPLED)
        assert not is_sampled((header or b"").decode())
        assert dict(one.headers)["tracestate"] == b"vendor=1", one.topic
    done = symphony(story_stage, "trace", order)
    assert done.returncode != 0
    assert "was not sampled" in done.stderr
    spans = trace_files.read(LabFiles(story_stage.target.lab_dir).traces)
    assert trace_id_of(UNSAMPLED) not in {span.trace_id for span in spans}


def log_lines(lab_dir: Path) -> Iterator[tuple[str, str]]:
    """Every line of the log of every worker, with its file."""
    for path in sorted(LabFiles(lab_dir).logs.glob("*-[0-9]*.log")):
        for line in path.read_text().splitlines():
            yield path.stem, line


def test_every_line_of_every_workers_log_is_a_record(story_stage: Stage, redriven: str) -> None:
    """One JSON object a line with the fields that all have; no tables, no colours, no payloads."""
    seen: dict[str, list[dict[str, Any]]] = {}
    for worker, line in log_lines(story_stage.target.lab_dir):
        record = json.loads(line)
        assert record.keys() >= ALWAYS, line
        assert record["level"] in {"debug", "info", "warning", "error", "critical"}, line
        assert record["worker"].startswith(worker), line
        assert "\x1b" not in record.get("message", ""), line
        assert not re.search(r"^[+|]", record.get("message", ""), re.MULTILINE), line
        seen.setdefault(record["role"], []).append(record)
    assert seen.keys() >= {
        "web",
        "relay",
        "orchestrator",
        "payment",
        "inventory",
        "shipping",
        "dlq",
    }
    about = [one for lines in seen.values() for one in lines if one.get("order_id") == redriven]
    assert {one["event"] for one in about} >= {
        "gateway.call_failed",
        "event.retried",
        "event.dead_lettered",
        "redrive.sent",
    }
    for one in about:
        assert one.keys() >= {"event_id", "correlation_id", "trace_id", "span_id", "topic"}, one
