"""Structured logs: one event name plus fields, JSON for machines and short lines on a terminal.

Use: `log = get_log(__name__)`, then `log.info("relay.lease_lost", shard=3)`. Fields bound with
`bound(...)` (correlation id, trace) are added to every record of the current task. Passwords in
URLs never leave the process. It guarantees nothing about delivery: lines go to standard output.
"""

from __future__ import annotations

import contextlib
import logging
import logging.config
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.msgspec import MsgspecFormatter

if TYPE_CHECKING:
    import types

    from app.settings import Settings

_BOUND: ContextVar[Mapping[str, Any]] = ContextVar("symphony_log_fields", default={})  # noqa: B039
_RESERVED: Final = frozenset(RESERVED_ATTRS) | {"asctime", "message", "symphony_fields"}
_EVENT: Final = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+")
_ROW: Final = re.compile(r"\nDETAIL:[^\n]*")
_ROW_IN_JSON: Final = re.compile(r'\\nDETAIL:(?:[^"\\]|\\(?!n).)*')
_COLOUR: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SERVICE: Final = re.compile(r"\[\^-*([^\n]+?)\]: ")
_TABLE: Final = ("+", "|")
_REPEATED_EVERY_S: Final = 5.0
_LEVELS: Final = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)
_URL_PASSWORD: Final = re.compile(r"(://[^:/@\s\"]*:)[^@\s\"]+@")
# Libraries whose lower records are never worth creating: aiokafka's debug records alone were a
# third of a consumer's cost per poll.
QUIET: Final = {
    "aiokafka": "WARNING",
    "aiohttp.access": "WARNING",
    "aiopg": "WARNING",
    "asyncio": "WARNING",
    "alembic": "WARNING",
    "opentelemetry": "CRITICAL",
    "urllib3": "ERROR",
    "faust": "INFO",
    "faust.livecheck": "ERROR",
    "mode": "INFO",
    "sqlalchemy": "WARNING",
}


class EventLog:
    """A logger whose message is an event name (`area.what_happened`) and whose data are fields."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, /, **fields: Any) -> None:
        """Record a detail that only matters when looking for a defect."""
        self._emit(logging.DEBUG, event, fields, None)

    def info(self, event: str, /, **fields: Any) -> None:
        """Record a fact of normal operation."""
        self._emit(logging.INFO, event, fields, None)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Record something an operator may have to look at."""
        self._emit(logging.WARNING, event, fields, None)

    def error(self, event: str, /, *, error: BaseException | None = None, **fields: Any) -> None:
        """Record a failure; `error` adds its class, message and stack."""
        self._emit(logging.ERROR, event, fields, error)

    def _emit(
        self, level: int, event: str, fields: dict[str, Any], error: BaseException | None
    ) -> None:
        if self._logger.isEnabledFor(level):
            info = (type(error), error, error.__traceback__) if error is not None else None
            self._logger.log(level, event, extra={"symphony_fields": fields}, exc_info=info)


class RateLimit(logging.Filter):
    """At most one record of a library per message template in 5 seconds.

    The next one that passes tells how many were held back. For libraries that repeat one sentence
    through an outage; `library` is the first part of their loggers' names.
    """

    def __init__(self, library: str) -> None:
        super().__init__()
        self._library = library
        self._passed: dict[tuple[str, object], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes; bounded by the number of templates in the code."""
        if record.name.partition(".")[0] != self._library:
            return True
        key = (record.name, record.msg)
        passed_at, held_back = self._passed.get(key, (-_REPEATED_EVERY_S, 0))
        if record.created - passed_at < _REPEATED_EVERY_S:
            self._passed[key] = (passed_at, held_back + 1)
            return False
        self._passed[key] = (record.created, 0)
        if held_back:
            record.held_back = held_back
        return True


def last_words(event: str, text: str, error: BaseException | None, **fields: Any) -> None:
    """Write one record to standard error, past every handler and lock: the process is about to end.

    In the form the process logs in; as `text` and a stack where it logs in none or for people. Safe
    from any thread, raises nothing.
    """
    handlers = logging.getLogger().handlers
    formatter = handlers[0].formatter if handlers else None
    if isinstance(formatter, JsonFormatter):
        info = (type(error), error, error.__traceback__) if error is not None else None
        record = logging.LogRecord(
            __name__, logging.CRITICAL, __file__, 0, event, None, info, "last_words"
        )
        record.symphony_fields = fields
        line = formatter.format(record)
    else:
        line = "\n".join([text, *map(str, fields.get("stacks", ()))])
        if error is not None:
            line += "\n" + "".join(traceback.format_exception(error)).rstrip()
    with contextlib.suppress(OSError, ValueError):
        out = sys.__stderr__ or sys.stderr
        out.write(f"{line}\n")
        out.flush()


def get_log(name: str) -> EventLog:
    """Return the event log of a module (pass `__name__`)."""
    return EventLog(name)


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Add `fields` to every record of this task while the block runs."""
    token = _BOUND.set({**_BOUND.get(), **fields})
    try:
        yield
    finally:
        _BOUND.reset(token)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return a record's fields: bound ones, then `extra=` of plain loggers, then the event's."""
    fields: dict[str, Any] = dict(_BOUND.get())
    for key, value in record.__dict__.items():
        if key not in _RESERVED and not key.startswith("_"):
            fields[key] = value
    fields.update(getattr(record, "symphony_fields", {}))
    return fields


def redact(line: str) -> str:
    """Return `line` without the passwords of URLs, and without PostgreSQL's details of an error:
    those quote the row.
    """
    if "DETAIL:" in line:
        line = _ROW_IN_JSON.sub("", _ROW.sub("", line))
    return _URL_PASSWORD.sub(r"\1***@", line) if "://" in line else line


class JsonFormatter(MsgspecFormatter):
    """One JSON object per line: ts, level, event, logger, role, worker, then the fields."""

    def __init__(self, static: Mapping[str, str]) -> None:
        super().__init__()
        self._static = dict(static)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON; unknown values are shown by their repr."""
        data: dict[str, Any] = {
            "ts": _timestamp(record),
            "level": _level(record),
            **_event_of(record),
            "logger": record.name,
            **self._static,
            **fields_of(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            data["error_class"] = type(record.exc_info[1]).__name__
            data["error_message"] = str(record.exc_info[1])
            data["stack"] = self.formatException(record.exc_info)
        return redact(str(self.jsonify_log_record(data)))


class HumanFormatter(logging.Formatter):
    """Short lines for people: time, level, event, then `key=value` pairs."""

    def __init__(self, static: Mapping[str, str]) -> None:
        super().__init__()
        self._worker = static.get("worker", "")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one readable line, its stack below when there is one."""
        clock = (
            datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        )
        pairs = " ".join(f"{key}={value}" for key, value in fields_of(record).items())
        said = _event_of(record)
        text = said["event"]
        if text == LIBRARY:
            text = f"{said.get('service', record.name)}: {said['message']}"
        line = f"{clock} {_level(record):8} {self._worker} {text} {pairs}"
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + self.formatException(record.exc_info)
        return redact(line.rstrip())


def _event_of(record: logging.LogRecord) -> dict[str, str]:
    """Return our event's name, or for a library's sentence one common name and the sentence."""
    text = record.getMessage()
    if _EVENT.fullmatch(text):
        return {"event": text}
    plain = _COLOUR.sub("", text)
    lines = [line for line in plain.splitlines() if not line.startswith(_TABLE)]
    said = {"event": LIBRARY, "message": "\n".join(lines).strip()}
    service = _SERVICE.match(said["message"])
    if service is not None:
        said["message"] = said["message"][service.end() :]
        said["service"] = service[1]
    return said


def _level(record: logging.LogRecord) -> str:
    """One of five names: libraries have levels of their own between them."""
    for least, name in _LEVELS:
        if record.levelno >= least:
            return name
    return "debug"


LIBRARY: Final = "library.message"


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def logging_config(settings: Settings) -> dict[str, Any]:
    """Return the dictConfig for a process: pass it to Faust as `logging_config`.

    Faust must also get `worker_redirect_stdouts=False`, else every print becomes a warning.
    """
    human = settings.log_format == "human" or (
        settings.log_format == "auto" and sys.stdout.isatty()
    )
    level = settings.log_level.upper()
    static = {"role": settings.role, "worker": settings.worker_id}
    if settings.incarnation:
        static["incarnation"] = settings.incarnation
    quiet = {
        name: {"level": max(floor, level, key=logging.getLevelNamesMapping().__getitem__)}
        for name, floor in QUIET.items()
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "default": {
                "()": f"{__name__}.{'HumanFormatter' if human else 'JsonFormatter'}",
                "static": static,
            }
        },
        "handlers": {
            "default": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "default",
                "filters": ["outage"],
            }
        },
        "filters": {"outage": {"()": f"{__name__}.RateLimit", "library": "aiokafka"}},
        "loggers": quiet,
        "root": {"level": level, "handlers": ["default"]},
    }


def configure(settings: Settings) -> None:
    """Set up logging of a process: what Python itself would print becomes records too."""
    logging.config.dictConfig(logging_config(settings))
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def _uncaught(
    kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    log.error("process.uncaught", error=error.with_traceback(trace))


def _uncaught_in_thread(given: threading.ExceptHookArgs) -> None:
    name = given.thread.name if given.thread is not None else ""
    log.error("process.uncaught", error=given.exc_value, thread=name)


def _unraisable(given: sys.UnraisableHookArgs) -> None:
    log.error("process.unraisable", error=given.exc_value, where=str(given.object)[:200])


log = get_log(__name__)
