"""Reading Prometheus and Alertmanager, however they behave; and an exam that survives all of it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from chaos.gameday import alerts
from chaos.observe.exam import NOT_SAT, Expected, Fault, Sheet
from chaos.observe.reader import Alertmanager, Prometheus, Unreadable
from tests.waiting import wait_until

pytestmark = pytest.mark.unit

Answer = Callable[[str, dict[str, str]], tuple[int, bytes]]
SHEET = Sheet((Expected(name="SloBurnFast", within_s=20.0, resolves_within_s=30.0),))
BEGAN_S = 1_000_000.0


class Fake:
    """An HTTP server on a free port whose answers are `answer(path, query)`."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.slow = threading.Event()
        self.over = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                status, body = fake.answer(parts.path, query)
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    if fake.slow.is_set():
                        for one in body:
                            self.wfile.write(bytes([one]))
                            if fake.over.wait(0.05):
                                return
                    else:
                        self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._handler = Handler
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self._serve()

    def _serve(self) -> None:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Go away, as a killed server does."""
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    def start_again(self) -> None:
        """Listen at the same port."""
        self.over.clear()
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
        self._serve()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Fake]]:
    """Make fake servers; they are stopped afterwards."""
    made: list[Fake] = []

    def one(answer: Answer) -> Fake:
        made.append(Fake(answer))
        return made[-1]

    yield one
    for fake in made:
        with contextlib.suppress(OSError):
            fake.stop()


def success(data: Any) -> tuple[int, bytes]:
    """An answer as Prometheus gives it."""
    return 200, json.dumps({"status": "success", "data": data}).encode()


def matrix(*series: tuple[dict[str, str], list[tuple[float, str]]]) -> tuple[int, bytes]:
    """A range of samples."""
    rows = [{"metric": labels, "values": values} for labels, values in series]
    return success({"resultType": "matrix", "result": rows})


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        pytest.param(500, b"boom", "answered 500", id="error"),
        pytest.param(422, b'{"status":"error","error":"parse error at char 3"}',
                     "parse error at char 3", id="its-own-reason"),
        pytest.param(200, b"<html>", "is not JSON", id="not-json"),
        pytest.param(200, b"[1]", "no success", id="not-an-object"),
        pytest.param(200, b'{"status":"success"}', "another form", id="no-data"),
        pytest.param(200, b'{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}',
                     "another form", id="another-kind"),
        pytest.param(200, b'{"status":"success","data":{"resultType":"vector","result":[{}]}}',
                     "another form", id="no-metric"),
        pytest.param(200, b"[" * 100_000, "is not JSON", id="deep"),
    ],
)  # fmt: skip
def test_whatever_is_answered_is_one_kind_of_error(
    serve: Callable[[Answer], Fake], status: int, body: bytes, told: str
) -> None:
    """An error, garbage or another form: Unreadable, with whose and why."""
    fake = serve(lambda _path, _query: (status, body))
    with pytest.raises(Unreadable, match=told):
        Prometheus(fake.url).query("up")
    with pytest.raises(Unreadable):
        Prometheus(fake.url).alerts()


@pytest.mark.parametrize("body", [b"{}", b'{"a": 1}', b'[{"labels": {}}]', b"[3]", b"null"])
def test_alertmanagers_answers_are_checked_too(
    serve: Callable[[Answer], Fake], body: bytes
) -> None:
    """An empty object has no alerts; what is none is Unreadable."""
    fake = serve(lambda _path, _query: (200, body))
    if body == b"{}":
        assert Alertmanager(fake.url).alerts() == {}
        return
    with pytest.raises(Unreadable):
        Alertmanager(fake.url).alerts()


def test_an_answer_that_trickles_is_broken_off(serve: Callable[[Answer], Fake]) -> None:
    """Each byte comes in time, and the whole does not."""
    fake = serve(lambda _path, _query: (200, b" " * 10_000))
    fake.slow.set()
    began = time.monotonic()
    with pytest.raises(Unreadable, match=r"longer than 0\.5 s"):
        Prometheus(fake.url, timeout_s=0.5).query("up")
    assert time.monotonic() - began < 10


def test_a_server_that_is_away_is_said_to_be_away() -> None:
    """Nobody listens."""
    with pytest.raises(Unreadable, match="does not answer"):
        Prometheus("http://127.0.0.1:9").query("up")


def test_samples_are_read_with_their_times(serve: Callable[[Answer], Fake]) -> None:
    """Values are numbers, NaN included."""
    fake = serve(lambda _p, _q: matrix(({"a": "b"}, [(1.5, "1"), (2.5, "NaN")])))
    (one,) = Prometheus(fake.url).query("x[5s]", 9.0)
    assert one.labels == {"a": "b"}
    assert one.samples[0] == (1.5, 1.0)
    assert one.samples[1][1] != one.samples[1][1]


# ---- the exam on top of it -----------------------------------------------------------------------


def prometheus(firing: range, scraped: range) -> Answer:
    """A Prometheus in which SloBurnFast fired and targets were scraped at these seconds."""

    def answer(path: str, query: dict[str, str]) -> tuple[int, bytes]:
        if path == "/api/v1/alerts":
            one = {"labels": {"alertname": "SloBurnFast"}, "state": "firing"}
            return success({"alerts": [one]})
        if path == "/api/v2/alerts":
            one = {"labels": {"alertname": "SloBurnFast"}, "status": {"state": "active"}}
            return 200, json.dumps([one]).encode()
        if path == "/api/v1/query":
            assert query["query"].startswith(alerts.FIRING)
            labels = {"alertname": "SloBurnFast", "severity": "page"}
            return matrix((labels, [(BEGAN_S + at, "1") for at in firing]))
        return matrix(({}, [(BEGAN_S + at, "9") for at in scraped]))

    return answer


def status_of(url: str) -> dict[str, Any]:
    """A lab's status."""
    return {"prometheus": {"url": url}, "alertmanager": {"url": url}, "interval_s": 1.0}


def sat(watch: alerts.AlertWatch, **changes: Any) -> dict[str, Any]:
    """The exam after 60 s, of a fault from 10 to 25 s."""
    faults = [Fault("slow gateway", 10.0, 25.0, True)]
    return alerts.document(SHEET, faults, watch, 60.0, required=False, **changes)


def test_an_exam_is_read_and_marked(serve: Callable[[Answer], Fake]) -> None:
    """From samples to result, with the arrival at Alertmanager."""
    fake = serve(prometheus(range(18, 40), range(61)))
    watch = alerts.AlertWatch(status_of(fake.url), BEGAN_S)
    watch.start()
    try:
        wait_until(lambda: watch.arrived, timeout_s=30, what="the watch has looked")
        assert watch.firing == {"SloBurnFast"}
        found = sat(watch)
    finally:
        watch.stop()
    assert (found["sat"], found["result"], found["score"]) == (True, "passed", 1.0)
    (row,) = found["rows"]
    assert (row["detection_s"], row["resolved_after_s"], row["alertmanager"]) == (
        8.0,
        15.0,
        "arrived",
    )
    json.dumps(found)


def test_a_prometheus_that_restarted_in_the_middle_leaves_a_gap(
    serve: Callable[[Answer], Fake],
) -> None:
    """It looks again after the restart; what it missed is unknown."""
    fake = serve(prometheus(range(0), [*range(15), *range(35, 61)]))  # type: ignore[arg-type]
    watch = alerts.AlertWatch(status_of(fake.url), BEGAN_S)
    fake.stop()
    watch.start()
    try:
        assert watch.firing is None
        fake.start_again()
        wait_until(lambda: watch.firing is not None, timeout_s=30, what="it is read again")
        found = sat(watch)
    finally:
        watch.stop()
    assert (found["sat"], found["result"], found["score"]) == (True, "unknown", None)
    assert "nothing was seen from 14 to 35 s" in found["reasons"][0]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param((500, b"x"), "answered 500", id="error"),
        pytest.param((200, b"x"), "is not JSON", id="garbage"),
    ],
)
def test_an_exam_that_cannot_be_read_is_unknown(
    serve: Callable[[Answer], Fake], answer: tuple[int, bytes], told: str
) -> None:
    """No crash, no result, and the reason."""
    fake = serve(lambda _path, _query: answer)
    found = sat(alerts.AlertWatch(status_of(fake.url), BEGAN_S))
    assert (found["sat"], found["result"], found["score"]) == (False, "unknown", None)
    assert told in found["reasons"][0]
    assert alerts.sentence(found).startswith("unknown: ")


def test_without_prometheus_the_exam_was_not_sat() -> None:
    """The sentence says how to have one."""
    found = sat(alerts.AlertWatch(None, BEGAN_S))
    assert (found["sat"], found["result"]) == (False, "unknown")
    assert found["reasons"] == [NOT_SAT]


def test_what_is_still_worth_waiting_for(serve: Callable[[Answer], Fake]) -> None:
    """An alert that may still fire or stop in time is awaited, and nothing else."""
    fake = serve(prometheus(range(18, 40), range(61)))
    watch = alerts.AlertWatch(status_of(fake.url), BEGAN_S)
    faults = [Fault("slow gateway", 10.0, 25.0, True)]
    assert alerts.worth_waiting(SHEET, faults, watch, 29.0), "it may still fire"
    watch.fired["SloBurnFast"] = 0.0
    assert alerts.worth_waiting(SHEET, faults, watch, 50.0), "whether it fires is not known"
    watch.look()
    assert alerts.worth_waiting(SHEET, faults, watch, 50.0), "it may still stop"
    assert not alerts.worth_waiting(SHEET, faults, watch, 61.0), "too late to stop in time"
    fake.answer = lambda path, _: (
        success({"alerts": []}) if path.endswith("v1/alerts") else (404, b"")
    )
    watch.look()
    assert watch.firing == frozenset()
    assert alerts.worth_waiting(SHEET, faults, watch, 50.0), "it fired just now"
    watch.fired["SloBurnFast"] -= alerts.QUIET_S
    assert not alerts.worth_waiting(SHEET, faults, watch, 50.0), "it is gone"
    void = [faults[0]._replace(proved=False)]
    assert not alerts.worth_waiting(SHEET, void, watch, 11.0), "nothing was broken"
