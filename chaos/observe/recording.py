"""Recording rules: what more than one alert or panel asks for, computed once.

Names are `symphony:what:how`; the windows in them are nominal (see `scale`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chaos.observe.alert import MINUTE_S
from chaos.observe.promql import grown, quantile, ratio_of
from chaos.observe.scale import Scale
from web.trace import NOT_TRACED

_PROBES = "|".join(sorted(NOT_TRACED)).replace("{", "[{]").replace("}", "[}]")
OF_CLIENTS = f'route!~"{_PROBES}"'
"""Requests of clients: a worker that is not ready answers 503 to probes, and is right to do so."""
REQUESTS = "symphony_http_requests_total"
CANARY = "symphony_canary_results_total"
BAD_RESULT = 'outcome=~"retried|parked"'


class Recording(NamedTuple):
    """One recorded series set; `labels` are those it has, `meaning` is a sentence for people."""

    name: str
    labels: tuple[str, ...]
    meaning: str
    expression: Callable[[Scale], str]


def _five(scale: Scale) -> str:
    return scale.window(5 * MINUTE_S)


def _errors(scale: Scale) -> str:
    failed = f'sum(rate({REQUESTS}{{status=~"5..",{OF_CLIENTS}}}[{_five(scale)}]))'
    return ratio_of(failed, f"sum(rate({REQUESTS}{{{OF_CLIENTS}}}[{_five(scale)}]))")


def _results(scale: Scale, where: str = "") -> str:
    return f"sum by (arm) ({grown(CANARY + where, scale.window(10 * MINUTE_S))})"


RECORDINGS = (
    Recording(
        "symphony:http_errors:ratio_rate5m",
        (),
        "Share of clients' requests answered with 5xx; nothing without requests.",
        _errors,
    ),
    Recording(
        "symphony:http_requests:increase5m",
        (),
        "How many requests that share stands on.",
        lambda s: f"sum(increase({REQUESTS}{{{OF_CLIENTS}}}[{_five(s)}]))",
    ),
    Recording(
        "symphony:http_request_seconds:p95_rate5m",
        (),
        "95 % of clients' requests were answered within this.",
        lambda s: quantile(
            0.95, "symphony_http_request_duration_seconds", _five(s), where=f"{{{OF_CLIENTS}}}"
        ),
    ),
    Recording(
        "symphony:db_round_trip_seconds:p95_rate5m",
        ("role",),
        "95 % of a role's questions to PostgreSQL were answered within this.",
        lambda s: quantile(0.95, "symphony_db_round_trip_seconds", _five(s), "role"),
    ),
    Recording(
        "symphony:gateway_call_seconds:p95_rate5m",
        ("operation",),
        "95 % of the calls to the payment provider took at most this.",
        lambda s: quantile(0.95, "symphony_gateway_call_seconds", _five(s), "operation"),
    ),
    Recording(
        "symphony:canary_results:increase10m",
        ("arm",),
        "How many tries to charge had a result.",
        _results,
    ),
    Recording(
        "symphony:canary_bad_results:ratio_increase10m",
        ("arm",),
        "Share of them that had to be retried or were parked.",
        lambda s: ratio_of(_results(s, f"{{{BAD_RESULT}}}"), _results(s)),
    ),
    Recording(
        "symphony:event_loop_delay_seconds:p99_rate5m",
        ("role", "worker"),
        "99 % of a worker's sleeping tasks woke at most this late.",
        lambda s: quantile(0.99, "symphony_event_loop_delay_seconds", _five(s), "role", "worker"),
    ),
    Recording(
        "symphony:slo_burn_rate:max",
        ("slo", "window"),
        "How fast an error budget burns; of several workers of role slo the worst.",
        lambda _: "max by (slo, window) (symphony_slo_burn_rate)",
    ),
)
