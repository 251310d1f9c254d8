"""Alerts about what customers and operators feel: SLOs, the API, sagas, payments, dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from app.settings import Settings
from app.slo.burn import ALERTS as BURNING
from app.slo.burn import BurnAlert
from chaos.observe.alert import HOUR_S, MINUTE_S, Alert
from chaos.observe.promql import grown
from chaos.observe.scale import Scale

ORDERS_FLOW = 'sum(rate(symphony_api_orders_total{{outcome="accepted"}}[{window}])) > 0'
BURNS = "symphony:slo_burn_rate:max"
BAD_EVENTS = "symphony_slo_window_bad_events"
BAD_EVENTS_MIN: int = Settings.model_fields["slo_burn_bad_events_min"].default
"""Generated rules take the default; who changes the setting changes them."""
BUDGET_WINDOW = "3d"
"""The window of every declared objective, over which its budget is spent."""
EVENTS_MIN = 20
"""Of fewer events, one or two bad ones are a large share and say nothing."""

#: The burn alerts of `app.slo.burn`, which the API judges by as well, under the names of rules.
BURN_ALERTS: Mapping[str, BurnAlert] = MappingProxyType(
    dict(
        zip(("SloBurnFast", "SloBurnSlow", "SloTicketFast", "SloTicketSlow"), BURNING, strict=True)
    )
)


CANARY_WORSE = (
    'symphony:canary_bad_results:ratio_increase10m{arm="canary"}'
    ' - ignoring (arm) symphony:canary_bad_results:ratio_increase10m{arm="stable"}'
)
"""By how much the canary's share of bad results is above the stable arm's."""


def burn(alert: BurnAlert) -> str:
    """The budget burns faster than the factor over the long window, and still over the short; and
    it is not one or two bad events among few.
    """
    over = [
        f'max by (slo) ({BURNS}{{window="{window}"}}) > {alert.factor:g}'
        for window in (alert.long, alert.short)
    ]
    return "\nand\n".join((*over, many_bad(alert.long)))


def budget_exhausted() -> str:
    """Nothing of the budget is left, and it is not one or two bad events that spent it."""
    spent = "min by (slo) (symphony_slo_budget_left_ratio) <= 0"
    return "\nand\n".join((spent, many_bad(BUDGET_WINDOW)))


def many_bad(window: str) -> str:
    """There were enough bad events in a window: among few, a single one is a large share."""
    return f'max by (slo) ({BAD_EVENTS}{{window="{window}"}}) >= {BAD_EVENTS_MIN}'


def _burn_alert(name: str, alert: BurnAlert) -> Alert:
    return Alert(
        name,
        alert.severity,
        "slo",
        lambda _: burn(alert),
        MINUTE_S,
        "The error budget of {{ $labels.slo }} burns at {{ $value | humanize }} times its pace",
        f"Over {alert.long} and over {alert.short} the budget of {{{{ $labels.slo }}}} burned more"
        f" than {alert.factor:g} times as fast as it may.",
        "an-error-budget-burns",
        symptom=alert.severity == "ticket",
    )


def _orders_flow(scale: Scale) -> str:
    return ORDERS_FLOW.format(window=scale.window(5 * MINUTE_S))


def _saga_illegal(scale: Scale) -> str:
    return (
        f"sum by (state) ({grown('symphony_saga_illegal_total', scale.window(10 * MINUTE_S))}) > 0"
    )


SLO_ALERTS = (
    *(_burn_alert(name, alert) for name, alert in BURN_ALERTS.items()),
    Alert(
        "SloBudgetExhausted",
        "ticket",
        "slo",
        lambda _: budget_exhausted(),
        5 * MINUTE_S,
        "The error budget of {{ $labels.slo }} is used up",
        "Nothing is left of the error budget of {{ $labels.slo }}: no GameDays and no risky"
        " releases until the objective is kept again.",
        "an-error-budget-burns",
    ),
    Alert(
        "SloAbsent",
        "page",
        "slo",
        lambda _: "absent(symphony_slo_objective_ratio)",
        5 * MINUTE_S,
        "No SLO is reported",
        "No worker of role slo reports an objective. Whether customers are served well is unknown.",
        "an-slo-has-no-data",
        on_no_data=True,
    ),
    Alert(
        "SloNoData",
        "page",
        "slo",
        lambda s: (
            "max by (slo) (symphony_slo_objective_ratio)\n"
            'unless on (slo) symphony:slo_burn_rate:max{window="1h"}\n'
            f"and on () {_orders_flow(s)}"
        ),
        10 * MINUTE_S,
        "{{ $labels.slo }} has no data while orders come in",
        "Orders are accepted, and for an hour no event has told how {{ $labels.slo }} does. Unknown"
        " is not healthy: the orders may all stand still.",
        "an-slo-has-no-data",
        on_no_data=True,
    ),
    Alert(
        "SloDataOld",
        "ticket",
        "slo",
        lambda s: (
            f"max(symphony_slo_data_age_seconds) > {s.pick(60, 10)}\nand on () {_orders_flow(s)}"
        ),
        5 * MINUTE_S,
        "The SLOs lag {{ $value | humanizeDuration }} behind the orders",
        "Orders are accepted, but the newest event that the SLOs know is old: they show the past.",
        "an-slo-has-no-data",
    ),
)

API_ALERTS = (
    Alert(
        "ApiErrors",
        "page",
        "api",
        lambda _: (
            "symphony:http_errors:ratio_rate5m > 0.05\n"
            f"and symphony:http_requests:increase5m >= {EVENTS_MIN}"
        ),
        2 * MINUTE_S,
        "{{ $value | humanizePercentage }} of the requests fail",
        f"More than 5 % of the requests are answered with a 5xx, of at least {EVENTS_MIN}; probes"
        " and scrapes do not count.",
        "the-api-answers-with-errors-or-slowly",
    ),
    Alert(
        "ApiSlow",
        "ticket",
        "api",
        lambda _: "symphony:http_request_seconds:p95_rate5m > 1",
        5 * MINUTE_S,
        "The API answers slowly: p95 {{ $value | humanizeDuration }}",
        "5 % of the requests take longer than a second.",
        "the-api-answers-with-errors-or-slowly",
        symptom=True,
    ),
)

SAGA_ALERTS = (
    Alert(
        "SagaStuck",
        "page",
        "sagas",
        lambda _: "max(symphony_saga_stuck) > 0",
        2 * MINUTE_S,
        "{{ $value }} sagas are stuck",
        "Sagas wait longer than their deadlines allow, and nothing drives them on.",
        "a-saga-is-stuck-or-parked",
    ),
    Alert(
        "SagaOld",
        "ticket",
        "sagas",
        lambda s: (
            'max by (state) (symphony_saga_oldest_age_seconds{state!~"PARKED|REVIEW"})'
            f" > {s.pick(600, 60)}"
        ),
        MINUTE_S,
        "A saga has been under way for {{ $value | humanizeDuration }}",
        "The oldest saga in {{ $labels.state }} is far beyond any time that a step may take.",
        "a-saga-is-stuck-or-parked",
        symptom=True,
    ),
    Alert(
        "SagaParked",
        "ticket",
        "sagas",
        lambda _: 'max(symphony_saga_active{state="PARKED"}) > 0',
        5 * MINUTE_S,
        "{{ $value }} sagas are parked",
        "Parked sagas wait until a person acts; their customers wait, too.",
        "a-saga-is-stuck-or-parked",
    ),
    Alert(
        "SagaIllegalEvent",
        "ticket",
        "sagas",
        _saga_illegal,
        0,
        "A saga in {{ $labels.state }} got an event that it does not allow",
        "No rule of the saga covers what a participant answered. The event is a dead letter.",
        "a-saga-got-an-event-that-it-does-not-allow",
    ),
)

PAYMENT_ALERTS = (
    Alert(
        "BreakerOpen",
        "ticket",
        "payments",
        lambda _: (
            'max by (role, worker, breaker) (symphony_breaker_state{state="closed"} == bool 0) == 1'
        ),
        MINUTE_S,
        "The circuit breaker of {{ $labels.worker }} is not closed",
        "{{ $labels.worker }} asks the provider only now and then, because it kept failing.",
        "the-payment-provider-fails",
    ),
    Alert(
        "GatewaySlow",
        "ticket",
        "payments",
        lambda _: "symphony:gateway_call_seconds:p95_rate5m > 2",
        3 * MINUTE_S,
        "The payment provider is slow: p95 {{ $value | humanizeDuration }}",
        "5 % of the calls ({{ $labels.operation }}) take longer than two seconds, which is what a"
        " whole order may take.",
        "the-payment-provider-fails",
    ),
    Alert(
        "CanaryWorse",
        "ticket",
        "payments",
        lambda _: (
            f"{CANARY_WORSE} > 0.1\n"
            f"and on () min(symphony:canary_results:increase10m) >= {EVENTS_MIN}"
        ),
        5 * MINUTE_S,
        "The canary fails more often than the stable version",
        "The share of charges that are retried or parked is ten points higher on the canary; each"
        f" version had at least {EVENTS_MIN}.",
        "the-canary-does-worse",
    ),
)


DEAD_LETTER_ALERTS = (
    Alert(
        "DeadLettersGrow",
        "ticket",
        "dead_letters",
        lambda s: (
            "sum by (consumer) ("
            f"{grown('symphony_delivery_dead_lettered_total', s.window(10 * MINUTE_S))}"
            f") > {s.pick(10, 3)}"
        ),
        0,
        "{{ $labels.consumer }} makes more dead letters",
        "{{ $labels.consumer }} dead-lettered about {{ $value | humanize }} records in ten minutes,"
        " whatever was sent back meanwhile.",
        "dead-letters-are-rising",
    ),
    Alert(
        "DeadLettersWait",
        "ticket",
        "dead_letters",
        lambda s: f"max(symphony_dlq_oldest_age_seconds) > {s.pick(4 * HOUR_S, 300)}",
        MINUTE_S,
        "A dead letter has waited for {{ $value | humanizeDuration }}",
        "Nobody has sent it back or put it away.",
        "dead-letters-are-rising",
    ),
    Alert(
        "ConsumerFlooded",
        "page",
        "dead_letters",
        lambda _: "max by (consumer) (symphony_dlq_flood) == 1",
        0,
        "{{ $labels.consumer }} has stopped before a flood of dead letters",
        "{{ $labels.consumer }} dead-lettered more than it may and takes up nothing until an"
        " operator releases it.",
        "a-consumer-stopped-before-a-flood-of-dead-letters",
    ),
)
