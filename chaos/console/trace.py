"""The command `symphony trace`: what happened to an order, as the tree of its spans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from app import trace_context
from app.cli import Failure, Json, print_json
from app.observability import trace_files, tracing
from app.observability.trace_files import StoredSpan
from app.settings import load_settings
from chaos.console.api import Api, ApiError
from chaos.console.options import LabDir, OrderId, Url
from chaos.lab.client import Lab
from chaos.lab.plan import LabFiles
from chaos.lab.process import LabError
from chaos.workload.target import target_of

NOT_FOUND = 404
TURN_ON = "turn it on: `symphony up --trace`, or trace_exporter = file"
OTHERS_MAX = 20
NS_PER_MS = 1_000_000


class Node(NamedTuple):
    """A span in its tree; `times` is how often it was recorded, `orphan` that its parent is not."""

    span: StoredSpan
    times: int
    orphan: bool
    children: list[Node]


def register(root: typer.Typer) -> None:
    """Add the command to `root`."""
    root.command("trace")(show)


def show(order_id: OrderId, url: Url = "", as_json: Json = False, lab_dir: LabDir = None) -> None:
    """Print the trace of an order: who did what when, with attempts, errors and links.

    Needs a lab, running or ended, that records traces (`symphony up --trace`). What operators did
    to the order are traces of their own, linked to it; they come after it.
    """
    files = LabFiles(load_settings(lab_dir=lab_dir).lab_dir)
    try:
        context = _context_of(Api(url or target_of(Lab(files.root)).url), order_id)
    except LabError:
        if not files.traces.is_dir():
            raise
        context = ""  # the lab has ended, its files are still there
    found = find(files.traces, order_id, trace_context.trace_id_of(context))
    if not found:
        raise Failure(_nothing(files.traces, order_id, context))
    if as_json:
        print_json({"orderId": order_id, "traces": [_document(tree) for tree in found]})
        return
    for number, tree in enumerate(found):
        if number:
            typer.echo("")
        for line in told(tree):
            typer.echo(line)


def find(directory: Path, order_id: str, trace_id: str) -> list[list[Node]]:
    """Return the order's trace first, then those of what was done to it; each as its roots."""
    merged = trace_files.merge(trace_files.read(directory))
    began: dict[str, int] = {}
    for span, _ in merged.values():
        if span.attributes.get(tracing.ORDER_ID) == order_id:
            began[span.trace_id] = min(span.start_ns, began.get(span.trace_id, span.start_ns))
    wanted = sorted(began, key=lambda one: (one != trace_id, began[one]))[:OTHERS_MAX]
    return [tree([one for one in merged.values() if one[0].trace_id == name]) for name in wanted]


def tree(spans: Sequence[tuple[StoredSpan, int]]) -> list[Node]:
    """Return the roots of one trace's spans, children in the order of their beginning."""
    known = {span.span_id for span, _ in spans}
    children: dict[str, list[Node]] = {}
    roots: list[Node] = []
    for span, times in sorted(spans, key=lambda one: (one[0].start_ns, one[0].end_ns)):
        orphan = bool(span.parent_id) and span.parent_id not in known
        node = Node(span, times, orphan, children.setdefault(span.span_id, []))
        if orphan or not span.parent_id:
            roots.append(node)
        else:
            children.setdefault(span.parent_id, []).append(node)
    return roots


def told(roots: Sequence[Node]) -> Iterator[str]:
    """Return the lines of one trace."""
    began_ns = min(node.span.start_ns for node in roots)
    every = list(_walk(roots))
    failed = sum(1 for node in every if node.span.error)
    lasted = (max(node.span.end_ns for node in every) - began_ns) / NS_PER_MS
    yield (
        f"trace {roots[0].span.trace_id}: {len(every)} spans, {lasted:.0f} ms"
        + (f", {failed} failed" if failed else "")
    )
    for root in roots:
        yield from _lines(root, began_ns, "", "")


def _lines(node: Node, began_ns: int, first: str, rest: str) -> Iterator[str]:
    span = node.span
    at = (span.start_ns - began_ns) / NS_PER_MS
    lasted = (span.end_ns - span.start_ns) / NS_PER_MS
    yield f"{at:>9.1f} ms  {lasted:>8.1f} ms  {first}{span.name}  [{span.worker}]{_remarks(node)}"
    for child in node.children:
        last = child is node.children[-1]
        yield from _lines(
            child, began_ns, rest + ("└ " if last else "├ "), rest + ("  " if last else "│ ")
        )


def _remarks(node: Node) -> str:
    span, told_of = node.span, []
    attributes = span.attributes
    if attributes.get(tracing.ATTEMPT):
        told_of.append(f"attempt {attributes[tracing.ATTEMPT]}")
    for name, meaning in (
        (tracing.REDRIVES, "redrive"),
        (tracing.SAGA_STATE, "saga"),
        ("http.response.status_code", "status"),
    ):
        if attributes.get(name):
            told_of.append(f"{meaning} {attributes[name]}")
    if node.times > 1:
        told_of.append(f"repeated {node.times - 1}x")
    if node.orphan:
        told_of.append("its parent was not recorded")
    for trace_id, span_id in span.links:
        place = "" if trace_id == span.trace_id else f" of trace {trace_id}"
        told_of.append(f"follows span {span_id}{place}")
    if span.error:
        said = span.message.removeprefix(span.error).removeprefix(": ")
        told_of.append(f"ERROR {span.error}: {said}".rstrip(": "))
    return "  " + ", ".join(told_of) if told_of else ""


def _walk(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _walk(node.children)


def _document(roots: Sequence[Node]) -> dict[str, Any]:
    return {"traceId": roots[0].span.trace_id, "spans": [_span(node) for node in roots]}


def _span(node: Node) -> dict[str, Any]:
    span = node.span
    return {
        "spanId": span.span_id,
        "parentSpanId": span.parent_id or None,
        "name": span.name,
        "kind": span.kind,
        "worker": span.worker,
        "startNs": span.start_ns,
        "durationMs": round((span.end_ns - span.start_ns) / NS_PER_MS, 3),
        "error": span.error or None,
        "message": span.message or None,
        "recorded": node.times,
        "parentMissing": node.orphan,
        "attributes": span.attributes,
        "links": [{"traceId": trace, "spanId": one} for trace, one in span.links],
        "children": [_span(child) for child in node.children],
    }


def _context_of(api: Api, order_id: str) -> str:
    """The order's trace context; empty before its saga has begun. Raises Failure and ApiError."""
    try:
        found = api.get(f"/api/sagas/{order_id}")
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        try:
            api.get(f"/api/orders/{order_id}")
        except ApiError as unknown:
            if unknown.status == NOT_FOUND:
                raise Failure(f"there is no order {order_id}: symphony order ls") from None
            raise
        return ""
    return found["traceparent"] or ""


def _nothing(directory: Path, order_id: str, context: str) -> str:
    """Why there is no span of the order, and what to do."""
    if not any(directory.glob(f"*{trace_files.SUFFIX}")):
        return f"this lab records no traces: {TURN_ON}"
    if context and not trace_context.is_sampled(context):
        return (
            f"the trace {trace_context.trace_id_of(context)} of order {order_id} was not sampled:"
            " trace_sample_ratio says how many are, and whoever sends a traceparent decides itself"
        )
    return (
        f"no span of order {order_id} is in {directory}: they come about a second late, and the"
        " oldest files go (trace_file_max_mb, trace_dir_max_mb)"
    )
