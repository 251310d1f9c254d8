"""Spans in files: lines of OTLP's JSON, as the OpenTelemetry Collector writes and reads them.

One file a worker incarnation, turned over at a size (one older file is kept), and the oldest files
of the directory go when it is too large. A line that a killed worker left unfinished is passed over
by the reader; nothing else is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import msgspec

from app.errors import InvalidSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

SUFFIX = ".jsonl"
OLDER = ".older.jsonl"
KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
ERROR = 2
_encode = msgspec.json.Encoder().encode


class StoredSpan(NamedTuple):
    """One span as a file has it; ids are hex, times are ns since the epoch, `links` contexts."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    error: str
    message: str
    links: tuple[tuple[str, str], ...]
    worker: str
    role: str


class SpanFile:
    """Where one worker incarnation writes; not safe for two threads at a time."""

    def __init__(
        self, directory: Path, name: str, *, file_max_bytes: int, dir_max_bytes: int
    ) -> None:
        """Make the directory and delete its oldest files beyond `dir_max_bytes`.

        Raises InvalidSettings when it cannot be written.
        """
        self.path = directory / f"{name}{SUFFIX}"
        self._older = directory / f"{name}{OLDER}"
        self._file_max = file_max_bytes // 2
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _make_room(directory, dir_max_bytes)
            self._file: BinaryIO = self.path.open("ab")
        except OSError as error:
            raise InvalidSettings(f"trace_dir {directory} cannot be written: {error}") from None

    def write(self, spans: Sequence[ReadableSpan]) -> None:
        """Append one line and hand it to the system. Raises OSError; the next call tries anew."""
        line = encode(spans)
        if self._file.closed:
            self._file = self.path.open("ab")
        if self._file.tell() and self._file.tell() + len(line) > self._file_max:
            self._file.close()
            with contextlib.suppress(FileNotFoundError):  # another worker may have made room
                self.path.replace(self._older)
            self._file = self.path.open("ab")
        self._file.write(line)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """Return one line: spans of one resource and scope as OTLP's JSON has them."""
    resource = [_pair(*pair) for pair in spans[0].resource.attributes.items()] if spans else []
    scope = spans[0].instrumentation_scope if spans else None
    scoped = {"scope": {"name": scope.name if scope else ""}, "spans": [_span(s) for s in spans]}
    return (
        _encode({"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [scoped]}]})
        + b"\n"
    )


def read(directory: Path) -> Iterator[StoredSpan]:
    """Every span of the files in `directory`, file by file; none when there is no directory."""
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            yield from _spans(file)


def merge(spans: Iterable[StoredSpan]) -> dict[tuple[str, str], tuple[StoredSpan, int]]:
    """Each span once, with how often it was recorded: the first record of it is kept."""
    merged: dict[tuple[str, str], tuple[StoredSpan, int]] = {}
    for span in spans:
        key = (span.trace_id, span.span_id)
        known, count = merged.get(key, (span, 0))
        merged[key] = (span if span.start_ns < known.start_ns else known, count + 1)
    return merged


def _spans(lines: Iterable[bytes]) -> Iterator[StoredSpan]:
    for line in lines:
        try:
            document = msgspec.json.decode(line)
            found = list(_of_document(document))
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
            continue
        yield from found


def _of_document(document: Mapping[str, Any]) -> Iterator[StoredSpan]:
    for resource in document["resourceSpans"]:
        about = _attributes(resource.get("resource", {}).get("attributes", ()))
        worker = str(about.get("service.instance.id", ""))
        role = str(about.get("symphony.role", ""))
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield _stored(span, worker, role)


def _stored(span: Mapping[str, Any], worker: str, role: str) -> StoredSpan:
    attributes = _attributes(span.get("attributes", ()))
    status = span.get("status", {})
    failed = status.get("code", 0) == ERROR
    return StoredSpan(
        span["traceId"],
        span["spanId"],
        span.get("parentSpanId", ""),
        span["name"],
        KINDS[span.get("kind", 0)],
        int(span["startTimeUnixNano"]),
        int(span["endTimeUnixNano"]),
        attributes,
        str(attributes.get("error.type", "error")) if failed else "",
        status.get("message", ""),
        tuple((link["traceId"], link["spanId"]) for link in span.get("links", ())),
        worker,
        role,
    )


def _span(span: ReadableSpan) -> dict[str, Any]:
    context, parent = span.get_span_context(), span.parent
    assert context is not None, "recorded spans have one"
    made: dict[str, Any] = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "name": span.name,
        "kind": span.kind.value + 1,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": [_pair(*pair) for pair in (span.attributes or {}).items()],
        "status": {"code": span.status.status_code.value},
    }
    if parent is not None:
        made["parentSpanId"] = f"{parent.span_id:016x}"
    if span.status.description:
        made["status"]["message"] = span.status.description
    if span.links:
        made["links"] = [
            {"traceId": f"{link.context.trace_id:032x}", "spanId": f"{link.context.span_id:016x}"}
            for link in span.links
        ]
    return made


def _pair(name: str, value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"key": name, "value": {"boolValue": value}}
        case int():
            return {"key": name, "value": {"intValue": str(value)}}
        case float():
            return {"key": name, "value": {"doubleValue": value}}
    return {"key": name, "value": {"stringValue": str(value)}}


def _attributes(pairs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {pair["key"]: _value(pair["value"]) for pair in pairs}


def _value(value: Mapping[str, Any]) -> Any:
    if "intValue" in value:
        return int(value["intValue"])
    return next(iter(value.values()), None)


def _make_room(directory: Path, max_bytes: int) -> None:
    """Delete the oldest files until the others take at most `max_bytes`."""
    kept = 0
    for _, size, path in sorted(_listed(directory), reverse=True):
        kept += size
        if kept > max_bytes:
            path.unlink(missing_ok=True)


def _listed(directory: Path) -> Iterator[tuple[float, int, Path]]:
    """When each file was changed, and its size; other workers turn over and delete meanwhile."""
    for path in directory.glob(f"*{SUFFIX}"):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        yield found.st_mtime, found.st_size, path
