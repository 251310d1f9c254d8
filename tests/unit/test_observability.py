"""Facts about metrics, logs and the health server."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.config
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import parser
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import parser as openmetrics

from app.observability import exemplars, log_reference, metrics, tracing
from app.observability.exposition import encode
from app.observability.families import CATALOGUE, REGISTRY, exemplar, one_of, render
from app.observability.health import Verdict, application
from app.observability.logging import (
    JsonFormatter,
    RateLimit,
    bound,
    get_log,
    last_words,
    logging_config,
    redact,
)
from app.observability.reference import PAGE, page

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


def settings(**changes: Any) -> Any:
    """Build the few settings that logging reads."""
    values = {
        "role": "payment",
        "worker_id": "payment-1",
        "incarnation": "",
        "log_level": "info",
        "log_format": "json",
    }
    return SimpleNamespace(**{**values, **changes})


class Lines(logging.Handler):
    """A handler that keeps what a JSON formatter makes of each record."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter({"role": "payment", "worker": "payment-1"}))
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record as a machine would read it."""
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def lines() -> Any:
    """Collect the lines of the logger `sample`."""
    handler = Lines()
    logger = logging.getLogger("sample")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.lines
    logger.removeHandler(handler)


def test_every_metric_is_prefixed_documented_and_has_no_unbounded_label() -> None:
    """The catalogue keeps its naming rules and no label could hold an order."""
    assert len(CATALOGUE) > 40
    for name, family in CATALOGUE.items():
        assert re.fullmatch(r"symphony_[a-z_]+", name)
        assert family.meaning.strip()
        assert not {"order_id", "customer", "key", "message"} & set(family.labels)


def test_the_reference_page_lists_every_metric() -> None:
    """The committed page is the generated one, with one row per metric."""
    text = page()
    assert all(f"| `{name}` |" in text for name in CATALOGUE)
    assert (ROOT / PAGE).read_text() == text, "run python -m app.observability.reference"


def test_a_child_is_created_once_and_can_be_forgotten() -> None:
    """Series are cached by label values and vanish from the scrape when forgotten."""
    first = metrics.LAG.child("unit", "order.created")
    assert metrics.LAG.child("unit", "order.created") is first
    first.set(7)
    metrics.LAG.child("unit", "order.cancel").set(8)
    line = b'symphony_delivery_lag_records{consumer="unit",topic="order.created"} 7.0'
    assert line in render()[0]
    metrics.LAG.forget("unit")
    assert b'consumer="unit"' not in render()[0]


def test_an_enumerated_state_has_exactly_one_series_at_one() -> None:
    """Moving to a state clears the state before."""
    place = ("unit",)
    one_of(metrics.BATCH_STATE, place, metrics.BATCH_STATES, "working")
    one_of(metrics.BATCH_STATE, place, metrics.BATCH_STATES, "held")
    shown = [
        line
        for line in render()[0].decode().splitlines()
        if 'consumer="unit"' in line and line.startswith("symphony_delivery_batch_state")
    ]
    assert len(shown) == len(metrics.BATCH_STATES)
    assert [line for line in shown if line.endswith(" 1.0")] == [
        line for line in shown if 'state="held"' in line
    ]
    metrics.BATCH_STATE.forget("unit")


TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_exemplars_are_shown_in_openmetrics_only() -> None:
    """An observation of a sampled trace names it, where the format allows it."""
    metrics.SAGA_SECONDS.child("COMPLETED").observe(1.7, exemplar(TRACE))
    metrics.DEAD_LETTERED.child("unit", "bad_key").inc(exemplar=exemplar(TRACE))
    metrics.DEAD_LETTERED.child("unit", "bad_key").inc(exemplar=exemplar(""))
    shown = render("application/openmetrics-text")[0].decode()
    marked = [line for line in shown.splitlines() if TRACE in line]
    assert len(marked) == 2
    assert any("symphony_saga_duration_seconds_bucket" in line for line in marked)
    assert any('symphony_delivery_dead_lettered_total{consumer="unit"' in line for line in marked)
    assert TRACE not in render()[0].decode()
    assert TRACE not in render("text/plain")[0].decode()
    metrics.DEAD_LETTERED.forget("unit")


ODD = 'a "quoted" \\ back\nslash and a µ'


def test_a_scrape_says_what_the_library_would_say() -> None:
    """The same families, texts, series, values and exemplars, in both formats."""
    metrics.DEAD_LETTERED.child("unit", ODD).inc(exemplar=exemplar(TRACE))
    metrics.LAG.child("unit", ODD).set(float("nan"))
    metrics.TABLE_ENTRIES.child("unit").set(1e21)
    metrics.STEP_SECONDS.child("unit", "decode").observe(0.3, exemplar(TRACE))
    registered = list(REGISTRY.collect())
    frozen: Any = SimpleNamespace(collect=lambda: registered)
    for accept, parse in (
        ("", parser.text_string_to_metric_families),
        ("application/openmetrics-text; version=1.0.0", openmetrics.text_string_to_metric_families),
    ):
        library, _ = choose_encoder(accept)
        wanted = list(parse(library(frozen).decode()))
        ours = encode(registered, openmetrics=bool(accept))
        assert repr(list(parse(ours.decode()))) == repr(wanted)
        assert len(wanted) > 40
    for family in (metrics.DEAD_LETTERED, metrics.LAG, metrics.TABLE_ENTRIES):
        family.forget("unit")
    metrics.STEP_SECONDS.forget("unit")


def test_only_a_trace_that_is_recorded_is_an_exemplar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tracing none is; with it the sampled ones are, and of a batch the first."""
    sampled, not_sampled = (f"00-{TRACE}-b7ad6b7169203331-{flags}" for flags in ("01", "00"))
    assert exemplars.of(sampled) is None
    assert exemplars.first_of([sampled]) is None
    assert exemplars.here() is None
    monkeypatch.setattr(tracing, "_recorder", object())
    assert exemplars.of(sampled) == {"trace_id": TRACE}
    assert exemplars.of(not_sampled) is None
    assert exemplars.of("") is None
    other = sampled.replace(TRACE, "f" * 32)
    assert exemplars.first_of(["", not_sampled, sampled, other]) == {"trace_id": TRACE}
    with tracing.within(sampled):
        assert exemplars.here() == {"trace_id": TRACE}
    assert exemplars.here() is None


def test_a_log_line_is_one_json_object_with_bound_fields(lines: list[dict[str, Any]]) -> None:
    """Event name, static fields, bound fields and the event's own fields meet in one object."""
    with bound(correlation_id="c-1"):
        get_log("sample").info("batch.held", partition=3, reason="database", name="any")
    line = lines[0]
    assert line["event"] == "batch.held"
    assert line["level"] == "info"
    assert (line["role"], line["worker"]) == ("payment", "payment-1")
    assert (line["correlation_id"], line["partition"], line["name"]) == ("c-1", 3, "any")


def test_plain_loggers_extra_fields_and_exceptions_are_kept(lines: list[dict[str, Any]]) -> None:
    """A library's record keeps its extra fields, and an error shows class, message and stack."""
    try:
        raise ValueError("no such order")
    except ValueError as error:
        get_log("sample").error("view.failed", error=error)
    logging.getLogger("sample").warning("from %s", "a library", extra={"shard": 2})
    assert lines[0]["error_class"] == "ValueError"
    assert lines[0]["error_message"] == "no such order"
    assert "test_observability.py" in lines[0]["stack"]
    assert lines[1]["event"] == "library.message"
    assert lines[1]["message"] == "from a library"
    assert lines[1]["shard"] == 2


def test_passwords_in_urls_never_reach_a_log_line(lines: list[dict[str, Any]]) -> None:
    """A connection string in a message or field is printed without its password."""
    get_log("sample").info("db.open", dsn="postgresql://web:s3cret@127.0.0.1:5432/symphony")
    assert lines[0]["dsn"] == "postgresql://web:***@127.0.0.1:5432/symphony"


def test_debug_records_of_aiokafka_are_not_created_even_at_debug_level() -> None:
    """The quiet list holds whatever level the operator chooses."""
    config = logging_config(settings(log_level="debug"))
    assert config["root"]["level"] == "DEBUG"
    assert config["loggers"]["aiokafka"]["level"] == "WARNING"
    assert logging_config(settings(log_level="error"))["loggers"]["mode"]["level"] == "ERROR"


class Sick:
    """A probe of a worker that lives but is not ready."""

    def live(self) -> Verdict:
        """Say that the process is fine."""
        return Verdict(True)

    def ready(self) -> Verdict:
        """Say what the worker waits for."""
        return Verdict(False, "waiting for the broker")

    def status(self) -> dict[str, Any]:
        """Say where the worker stands."""
        return {"partitions": [{"topic": "order.created", "lag": 3}]}


def test_a_worker_without_broker_is_live_but_not_ready_and_says_why() -> None:
    """/livez passes, /readyz answers 503 with the reason, /status and /metrics answer."""

    async def ask() -> None:
        async with TestClient(TestServer(application(Sick()))) as client:
            assert (await client.get("/livez")).status == 200
            ready = await client.get("/readyz")
            assert ready.status == 503
            assert (await ready.json())["reason"] == "waiting for the broker"
            assert (await (await client.get("/status")).json())["partitions"][0]["lag"] == 3
            scrape = await client.get(
                "/metrics", headers={"Accept": "application/openmetrics-text"}
            )
            assert "openmetrics" in scrape.headers["Content-Type"]
            assert "# EOF" in await scrape.text()

    asyncio.run(ask())


@pytest.mark.unit
def test_a_library_that_repeats_a_sentence_is_held_back_and_counted() -> None:
    """One record per template passes in five seconds; the next tells how many did not."""
    limit = RateLimit("aiokafka")

    def record(name: str, created: float) -> logging.LogRecord:
        made = logging.LogRecord(name, logging.WARNING, "", 0, "node %s away", ("1",), None)
        made.created = created
        return made

    passed = [limit.filter(record("aiokafka.conn", at)) for at in (0.0, 1.0, 4.9)]
    late = record("aiokafka.conn", 5.0)

    assert passed == [True, False, False]
    assert limit.filter(late)
    assert late.held_back == 2
    assert all(limit.filter(record("app.relay", at)) for at in (0.0, 0.1))


def test_the_page_of_log_events_is_current() -> None:
    """`python -m app.observability.log_reference` would change nothing; names are names."""
    assert (ROOT / log_reference.PAGE).read_text() == log_reference.page(ROOT)
    for one in log_reference.calls(ROOT):
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+", one.event), one


def test_sentences_of_libraries_are_brought_in_line(lines: Any) -> None:
    """No colours, no tables, no arrows; the level is one of five."""
    logger = logging.getLogger("sample")
    logger.info("[^---Recovery]: \x1b[32mHighwater\x1b[0m:\n+Active---+\n| topic |\n+---+")
    logger.log(35, "[^----Agent: a[.]b]: Starting...")
    assert lines[0]["event"] == "library.message"
    assert (lines[0]["service"], lines[0]["message"]) == ("Recovery", "Highwater:")
    assert (lines[1]["service"], lines[1]["level"]) == ("Agent: a[.]b", "warning")


def test_last_words_are_a_record_where_records_are_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As JSON with the stack in it, as text where nobody set up logging."""
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    handler = Lines()
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    last_words("worker.ended", "exit 70", ValueError("the cause"), reason="lease")
    said = json.loads(capsys.readouterr().err)
    assert (said["event"], said["level"], said["reason"]) == ("worker.ended", "critical", "lease")
    assert "ValueError: the cause" in said["stack"]
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    last_words("worker.ended", "exit 70", ValueError("the cause"))
    assert "ValueError: the cause" in capsys.readouterr().err


def test_a_row_that_postgresql_quotes_is_cut(lines: Any) -> None:
    """The error is told, the customer's data is not: neither in JSON nor for people."""
    said = 'not null\nDETAIL:  Failing row contains (ada, "secret \\ street").\nCONTEXT: x'
    get_log("sample").error("a.b", error=ValueError(said), reason=said)
    assert "ada" not in json.dumps(lines[0])
    assert lines[0]["reason"] == "not null\nCONTEXT: x"
    assert redact(said) == "not null\nCONTEXT: x"
