"""What makes each alert fire, and what comes near it and must not: data for promtool's unit tests.

A series is written as (selector, how it runs); how it runs is a function of the time scale, because
a scrape of the lab comes after 2 s and one of production after 15 s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import Histogram

from app.observability import metrics
from app.observability.families import Family
from chaos.observe.alerts_on_platform import STANDARD
from chaos.observe.scale import PRODUCTION, Scale

SAMPLES = 181
"""Enough for half an hour's window and a `for` of ten minutes at a scrape every 15 s."""
SCRAPES_PER_LOOK = 4
"""Rules are evaluated after so many scrapes only, to save time; at the last one, too."""

Run = Callable[[Scale], str]


def at(value: float) -> Run:
    """It stays at a value."""
    return lambda _: f"{value:g}+0x{SAMPLES}"


def by_scale(production: float, lab: float) -> Run:
    """It stays at a value that depends on the scale."""
    return lambda scale: at(production if scale is PRODUCTION else lab)(scale)


def grows(per_s: float, start: float = 0) -> Run:
    """It grows by so much in a second."""
    return lambda scale: f"{start:g}+{per_s * scale.scrape_s:g}x{SAMPLES}"


def grows_by_scale(production: float, lab: float) -> Run:
    """It grows in a second by so much, which depends on the scale."""
    return lambda scale: grows(production if scale is PRODUCTION else lab)(scale)


def every(scrapes: int, step: float) -> Run:
    """It jumps by `step` after each so many scrapes."""
    levels = range(SAMPLES // scrapes + 1)
    return lambda _: " ".join(f"{level * step:g}+0x{scrapes - 1}" for level in levels)


def born(value: float) -> Run:
    """It is not there for long, and then begins with its value: the first event of its kind."""
    return lambda _: f"_x{SAMPLES - 2} {value:g} {value:g} {value:g}"


def stepped(before: float, after: float) -> Run:
    """One value and then another, in the middle of a window of half an hour."""

    def run(scale: Scale) -> str:
        ago = 60 if scale is PRODUCTION else 10
        return f"{before:g}+0x{SAMPLES - 1 - ago} {after:g}+0x{ago}"

    return run


def burst(value: float) -> Run:
    """All at once and 30 scrapes ago, which production's window of ten minutes still sees, and a
    lab's not.
    """
    return lambda _: f"_x{SAMPLES - 31} {value:g}+0x30"


class Firing(NamedTuple):
    """An alert that fires: the labels that its expression leaves, `$value` as its texts show it."""

    labels: Mapping[str, str] = {}
    value: str = ""


class Case(NamedTuple):
    """Series under which `alert` fires as told, and such, near it, under which it does not."""

    alert: str
    series: Mapping[str, Run]
    fires: Sequence[Firing] | Callable[[Scale], Sequence[Firing]]
    silent: Mapping[str, Run] = {}

    def expected(self, scale: Scale) -> Sequence[Firing]:
        """What fires at a scale."""
        return self.fires(scale) if callable(self.fires) else self.fires


W = 'role="payment",worker="payment-1"'
CONSUMER = 'consumer="payment",' + W
DELIVERY = 'topic="payment.requested",' + CONSUMER
SLOS = ("availability", "completion", "dead_letters", "fraud")
ORDERS = 'symphony_api_orders_total{outcome="accepted",role="web",worker="web-1"}'
REQUESTS = "symphony_http_requests_total"
ORDER_ROUTE = 'method="POST",route="/api/orders",role="web",worker="web-1"'


def histogram(of: Family[Histogram], labels: str, at_most: Mapping[float, float]) -> dict[str, Run]:
    """Every bucket of a histogram: so many per second at or below some of its bounds; all of them
    at or below the last.
    """
    assert at_most.keys() <= set(of.buckets), f"{of.name} has the bounds {of.buckets}"
    made, rate = {}, 0.0
    for bound in (*of.buckets, math.inf):
        rate = at_most.get(bound, rate)
        le = "+Inf" if bound == math.inf else f"{bound:g}"
        made[f'{of.name}_bucket{{{labels},le="{le}"}}'] = grows(rate)
    return made


def burning(
    long: str, short: str, over_long: float, over_short: float, bad: float = 3
) -> dict[str, Run]:
    """The burn rates of every SLO over two windows, and the bad events in the long one."""
    rates = {
        f'symphony_slo_burn_rate{{slo="{slo}",window="{window}",role="slo"}}': at(rate)
        for slo in SLOS
        for window, rate in ((long, over_long), (short, over_short))
    }
    return rates | {
        f'symphony_slo_window_bad_events{{slo="{slo}",window="{long}",role="slo"}}': at(bad)
        for slo in SLOS
    }


def burn_cases(alert: str, long: str, short: str, rate: float) -> list[Case]:
    """It fires over `rate` for every SLO; not at `rate`, nor when one of the windows is calm, nor
    for two bad events.
    """
    over = rate + 0.5
    fires = [Firing({"slo": slo}, f"{over:g}") for slo in SLOS]
    hurt = burning(long, short, over, over)
    return [
        Case(alert, hurt, fires, burning(long, short, rate, rate)),
        Case(alert, burning(long, short, over, 0), []),
        Case(alert, burning(long, short, 0, over), []),
        Case(alert, burning(long, short, over, over, bad=2), []),
    ]


def spent(left: float, *, bad: float, window: str = "3d") -> dict[str, Run]:
    """What is left of an objective's budget, and the bad events in a window."""
    return {
        'symphony_slo_budget_left_ratio{slo="fraud",role="slo"}': at(left),
        f'symphony_slo_window_bad_events{{slo="fraud",window="{window}",role="slo"}}': at(bad),
    }


SLOW_API = histogram(metrics.HTTP_SECONDS, ORDER_ROUTE, {1: 0.8, 2: 1})
QUICK_API = histogram(metrics.HTTP_SECONDS, ORDER_ROUTE, {1: 1})


def round_trips(at_most: Mapping[float, float]) -> dict[str, Run]:
    """Questions of role payment to PostgreSQL."""
    return histogram(metrics.DB_ROUND_TRIP, W, at_most)


def gateway_calls(at_most: Mapping[float, float]) -> dict[str, Run]:
    """Charges at the provider."""
    return histogram(metrics.GATEWAY_SECONDS, f'operation="charge",{W}', at_most)


def canary(bad_of_canary: float, bad_of_stable: float) -> dict[str, Run]:
    """Results per second of both arms; each has ten, so many of them bad. An outcome that an arm
    never had has no series.
    """
    return {
        results(arm, outcome): grows(rate)
        for arm, bad in (("canary", bad_of_canary), ("stable", bad_of_stable))
        for outcome, rate in (("retried", bad / 2), ("parked", bad / 2), ("charged", 10 - bad))
        if rate
    }


def results(arm: str, outcome: str) -> str:
    """The counter of one arm's results."""
    role = "payment-canary" if arm == "canary" else "payment"
    return f'symphony_canary_results_total{{arm="{arm}",outcome="{outcome}",role="{role}"}}'


def dead_lettered(error: str) -> str:
    """The counter of what the payment gave up."""
    return f'symphony_delivery_dead_lettered_total{{consumer="payment",error="{error}",{W}}}'


def started(*megabytes: float) -> dict[str, Run]:
    """A worker that started within the window of MemoryGrows, and its memory at its first scrapes;
    then it stays.
    """

    def first(scale: Scale) -> int:
        return 80 if scale is PRODUCTION else 168

    def memory(scale: Scale) -> str:
        sizes = [f"{size * 2**20:g}" for size in megabytes]
        rest = SAMPLES - first(scale) - len(sizes)
        return f"_x{first(scale)} {' '.join(sizes)} {sizes[-1]}+0x{rest}"

    def begin(scale: Scale) -> str:
        at_s = first(scale) * scale.scrape_s
        return f"_x{first(scale)} {at_s}+0x{SAMPLES - first(scale)}"

    return {
        f"symphony_process_resident_memory_bytes{{{W}}}": memory,
        f"symphony_process_start_time_seconds{{{W}}}": begin,
    }


def answers(status: str) -> str:
    """The counter of answers to orders."""
    return f'{REQUESTS}{{status="{status}",{ORDER_ROUTE}}}'


FEW = grows_by_scale(0.025, 0.75)
"""Seven or eight in the window of five minutes."""


def role_absent(role: str) -> Firing:
    """A role without a worker."""
    return Firing({"role": role})


ALL_UP = {f'up{{job="symphony",role="{role}",worker="{role}-1"}}': at(1) for role in STANDARD}

CASES = (
    *burn_cases("SloBurnFast", "1h", "5m", 14.4),
    *burn_cases("SloBurnSlow", "6h", "30m", 6),
    *burn_cases("SloTicketFast", "1d", "2h", 3),
    *burn_cases("SloTicketSlow", "3d", "6h", 1),
    Case("SloBudgetExhausted", spent(-0.2, bad=3), [Firing({"slo": "fraud"})], spent(0.01, bad=9)),
    # One order of a quiet lab is held for a review, and another one.
    Case("SloBudgetExhausted", spent(-19, bad=2), []),
    Case("SloBudgetExhausted", spent(-19, bad=9, window="1h"), []),
    Case("SloAbsent", {}, [Firing()], {'symphony_slo_objective_ratio{slo="fraud"}': at(0.95)}),
    Case(
        "SloNoData",
        {'symphony_slo_objective_ratio{slo="completion"}': at(0.95), ORDERS: grows(1)},
        [Firing({"slo": "completion"})],
        {
            'symphony_slo_objective_ratio{slo="completion"}': at(0.95),
            'symphony_slo_burn_rate{slo="completion",window="1h"}': at(0),
            ORDERS: grows(1),
        },
    ),
    Case(
        "SloNoData",
        {
            'symphony_slo_objective_ratio{slo="completion"}': at(0.95),
            'symphony_slo_objective_ratio{slo="fraud"}': at(0.95),
            'symphony_slo_burn_rate{slo="completion",window="1h"}': at(0),
            ORDERS: grows(1),
        },
        [Firing({"slo": "fraud"})],
        {'symphony_slo_objective_ratio{slo="completion"}': at(0.95), ORDERS: at(7)},
    ),
    Case(
        "SloDataOld",
        {"symphony_slo_data_age_seconds": at(120), ORDERS: grows(1)},
        [Firing({}, "2m 0s")],
        {"symphony_slo_data_age_seconds": at(120), ORDERS: at(7)},
    ),
    Case(
        "ApiErrors",
        {
            answers("500"): grows(1),
            answers("202"): grows(9),
            # Probes dilute nothing.
            f'{REQUESTS}{{status="200",method="GET",route="/readyz",role="web"}}': grows(90),
        },
        [Firing({}, "10%")],
        {answers("404"): grows(5), answers("500"): grows(0.4), answers("202"): grows(9)},
    ),
    # One of two requests fails, and there are fifteen in the window.
    Case("ApiErrors", {answers("500"): FEW, answers("202"): FEW}, []),
    # Probes of a worker that is not ready.
    Case(
        "ApiErrors",
        {
            f'{REQUESTS}{{status="503",method="GET",route="/readyz",role="web"}}': grows(9),
            answers("202"): grows(9),
        },
        [],
    ),
    Case("ApiSlow", SLOW_API, [Firing({}, "1.75s")], QUICK_API),
    Case(
        "SagaStuck",
        {"symphony_saga_stuck": at(2)},
        [Firing({}, "2")],
        {"symphony_saga_stuck": at(0)},
    ),
    Case(
        "SagaOld",
        {'symphony_saga_oldest_age_seconds{state="COMPENSATING"}': at(660)},
        [Firing({"state": "COMPENSATING"}, "11m 0s")],
        {
            'symphony_saga_oldest_age_seconds{state="PARKED"}': at(6600),
            'symphony_saga_oldest_age_seconds{state="REVIEW"}': at(6600),
            'symphony_saga_oldest_age_seconds{state="COMPENSATING"}': at(50),
        },
    ),
    Case(
        "SagaParked",
        {'symphony_saga_active{state="PARKED"}': at(3)},
        [Firing({}, "3")],
        {
            'symphony_saga_active{state="PARKED"}': at(0),
            'symphony_saga_active{state="PAYMENT_PENDING"}': at(9),
        },
    ),
    Case(
        "SagaIllegalEvent",
        {'symphony_saga_illegal_total{state="COMPLETED",role="orchestrator"}': born(1)},
        [Firing({"state": "COMPLETED"})],
        {'symphony_saga_illegal_total{state="COMPLETED",role="orchestrator"}': at(4)},
    ),
    Case(
        "SagaIllegalEvent",
        {'symphony_saga_illegal_total{state="none",role="orchestrator"}': grows(1)},
        [Firing({"state": "none"})],
        {},
    ),
    Case(
        "BreakerOpen",
        {
            f'symphony_breaker_state{{breaker="gateway",state="closed",{W}}}': at(0),
            f'symphony_breaker_state{{breaker="gateway",state="open",{W}}}': at(1),
        },
        [Firing({"role": "payment", "worker": "payment-1", "breaker": "gateway"})],
        {f'symphony_breaker_state{{breaker="gateway",state="closed",{W}}}': at(1)},
    ),
    Case(
        "GatewaySlow",
        gateway_calls({1: 0, 5: 1}),
        [Firing({"operation": "charge"}, "4.875s")],
        gateway_calls({1: 0, 2: 1}),
    ),
    Case("CanaryWorse", canary(4, 1), [Firing()], canary(1.5, 1)),
    Case("CanaryWorse", canary(4, 1), [Firing()], canary(1, 4)),
    Case("CanaryWorse", canary(4, 0), [Firing()], canary(0, 0)),
    # A canary that fails from its first charge on, and one that has had few yet.
    Case(
        "CanaryWorse",
        {results("canary", "retried"): burst(25), results("stable", "charged"): grows(10)},
        lambda scale: [Firing()] if scale is PRODUCTION else [],
        {results("canary", "retried"): burst(15), results("stable", "charged"): grows(10)},
    ),
    Case(
        "CanaryWorse",
        {results("canary", "retried"): burst(25), results("stable", "charged"): burst(15)},
        [],
    ),
    Case(
        "DeadLettersGrow",
        # As many are sent back as are new, and the index says nothing grows.
        {
            dead_lettered("poison"): grows_by_scale(0.05, 1),
            'symphony_dlq_depth{topic="payment.requested.dlt",role="slo"}': at(5),
        },
        lambda scale: [Firing({"consumer": "payment"}, "30" if scale is PRODUCTION else "10")],
        {
            dead_lettered("poison"): at(500),
            'symphony_dlq_depth{topic="payment.requested.dlt",role="slo"}': grows(1),
        },
    ),
    Case(
        "DeadLettersGrow",
        {dead_lettered("poison"): born(6), dead_lettered("retries_exhausted"): born(6)},
        [Firing({"consumer": "payment"}, "12")],
        {dead_lettered("poison"): born(1), dead_lettered("retries_exhausted"): born(2)},
    ),
    Case(
        "DeadLettersWait",
        {"symphony_dlq_oldest_age_seconds": at(18_000)},
        [Firing({}, "5h 0m 0s")],
        {"symphony_dlq_oldest_age_seconds": at(200)},
    ),
    Case(
        "ConsumerFlooded",
        {f'symphony_dlq_flood{{consumer="payment",{W}}}': at(1)},
        [Firing({"consumer": "payment"})],
        {f'symphony_dlq_flood{{consumer="payment",{W}}}': at(0)},
    ),
    Case(
        "RoleAbsent",
        {**ALL_UP, 'up{job="symphony",role="relay",worker="relay-1"}': at(0)},
        [role_absent("relay")],
        ALL_UP,
    ),
    Case(
        "RoleAbsent",
        {name: run for name, run in ALL_UP.items() if 'role="payment"' not in name},
        [role_absent("payment")],
        {'up{job="symphony",role="monolith",worker="monolith-1"}': at(1)},
    ),
    Case("RoleAbsent", {}, [role_absent(role) for role in STANDARD], ALL_UP),
    Case(
        "WorkerDown",
        {**ALL_UP, 'up{job="symphony",role="payment",worker="payment-2"}': at(0)},
        [Firing({"role": "payment", "worker": "payment-2"})],
        {**ALL_UP, 'up{job="prometheus"}': at(0)},
    ),
    Case(
        "WorkerNotReady",
        {f"symphony_worker_ready{{{W}}}": at(0)},
        [Firing({"role": "payment", "worker": "payment-1"})],
        {f"symphony_worker_ready{{{W}}}": at(1)},
    ),
    Case(
        "WorkerRestarts",
        {f"symphony_process_start_time_seconds{{{W}}}": every(3, 100)},
        lambda scale: [
            Firing({"role": "payment", "worker": "payment-1"}, "40" if scale is PRODUCTION else "5")
        ],
        {f"symphony_process_start_time_seconds{{{W}}}": every(150, 100)},
    ),
    Case(
        "EventLoopLate",
        histogram(metrics.LOOP_DELAY, W, {0.5: 0.9, 1: 1}),
        [Firing({"role": "payment", "worker": "payment-1"}, "950ms")],
        histogram(metrics.LOOP_DELAY, W, {0.25: 0, 0.5: 1}),
    ),
    Case(
        "MemoryGrows",
        {
            f"symphony_process_start_time_seconds{{{W}}}": at(0),
            f"symphony_process_resident_memory_bytes{{{W}}}": grows_by_scale(
                200 * 2**20 / 3600, 10 * 2**20
            ),
        },
        lambda scale: [
            Firing(
                {"role": "payment", "worker": "payment-1"},
                "56.89ki" if scale is PRODUCTION else "10Mi",
            )
        ],
        {
            f"symphony_process_start_time_seconds{{{W}}}": at(0),
            f"symphony_process_resident_memory_bytes{{{W}}}": at(10**10),
        },
    ),
    Case("MemoryGrows", started(60, 100, 140, 180, 220, 260), []),
    # One large batch, whose memory is kept.
    Case(
        "MemoryGrows",
        {
            f"symphony_process_start_time_seconds{{{W}}}": at(0),
            f"symphony_process_resident_memory_bytes{{{W}}}": stepped(100 * 2**20, 200 * 2**20),
        },
        [],
    ),
    Case(
        "ConsumerLag",
        {'symphony_consumer_lag_seconds{role="payment",topic="payment.requested"}': at(90)},
        [Firing({"role": "payment", "topic": "payment.requested"}, "1m 30s")],
        {
            'symphony_consumer_lag_seconds{role="dlq",topic="retry.30s"}': at(90),
            'symphony_consumer_lag_seconds{role="payment",topic="payment.requested"}': at(4),
        },
    ),
    Case(
        "WorkerStuck",
        {
            f"symphony_delivery_watermark_age_seconds{{{DELIVERY}}}": at(90),
            f"symphony_delivery_lag_records{{{DELIVERY}}}": at(7),
            f'symphony_delivery_batch_state{{{CONSUMER},state="waiting"}}': at(0),
        },
        [
            Firing(
                {
                    "role": "payment",
                    "worker": "payment-1",
                    "consumer": "payment",
                    "topic": "payment.requested",
                },
                "1m 30s",
            )
        ],
        {
            f"symphony_delivery_watermark_age_seconds{{{DELIVERY}}}": at(90),
            f"symphony_delivery_lag_records{{{DELIVERY}}}": at(7),
            f'symphony_delivery_batch_state{{{CONSUMER},state="waiting"}}': at(1),
        },
    ),
    Case(
        "BatchHeld",
        {f'symphony_delivery_held{{{CONSUMER},reason="database"}}': at(1)},
        [
            Firing(
                {
                    "role": "payment",
                    "worker": "payment-1",
                    "consumer": "payment",
                    "reason": "database",
                }
            )
        ],
        {
            f'symphony_delivery_held{{{CONSUMER},reason="database"}}': at(0),
            f'symphony_delivery_held{{{CONSUMER},reason="flood"}}': at(1),
        },
    ),
    Case(
        "CommitsOld",
        {f'symphony_commit_age_seconds{{consumer="payment",{W}}}': at(90)},
        [Firing({"role": "payment", "worker": "payment-1", "consumer": "payment"}, "1m 30s")],
        {f'symphony_commit_age_seconds{{consumer="payment",{W}}}': at(4)},
    ),
    Case(
        "GroupEmpty",
        {'symphony_consumer_members{role="payment"}': at(0)},
        [Firing({"role": "payment"})],
        {'symphony_consumer_members{role="payment"}': at(2)},
    ),
    Case(
        "RebalanceStorm",
        {
            f'symphony_delivery_rebalances_total{{consumer="payment",event="assigned",{W}}}': (
                every(2, 1)
            )
        },
        [Firing({"role": "payment"})],
        {
            f'symphony_delivery_rebalances_total{{consumer="payment",event="assigned",{W}}}': (
                every(60, 1)
            )
        },
    ),
    Case(
        "TableRecoveryLong",
        {f'symphony_table_recovery_remaining_records{{table="sagas",{W}}}': at(9)},
        [Firing({"role": "payment", "worker": "payment-1", "table": "sagas"}, "9")],
        {f'symphony_table_recovery_remaining_records{{table="sagas",{W}}}': at(0)},
    ),
    Case(
        "OutboxLag",
        {"symphony_outbox_oldest_age_seconds": at(120)},
        [Firing({}, "2m 0s")],
        {"symphony_outbox_oldest_age_seconds": at(4)},
    ),
    Case(
        "OutboxParked",
        {"symphony_outbox_parked_rows": at(1)},
        [Firing({}, "1")],
        {"symphony_outbox_parked_rows": at(0)},
    ),
    Case(
        "DatabaseSlow",
        round_trips({1: 0.5, 5: 1}),
        [Firing({"role": "payment"}, "4.75s")],
        round_trips({1: 0, 2: 1}),
    ),
    Case(
        "DatabasePoolBusy",
        histogram(metrics.DB_ACQUIRE, W, {0.5: 0.5, 1: 1}),
        [Firing({"role": "payment", "worker": "payment-1"})],
        histogram(metrics.DB_ACQUIRE, W, {0.25: 0, 0.5: 1}),
    ),
    Case(
        "DatabaseConnections",
        {
            'symphony_postgres_connections{state="active",worker="slo-1"}': at(60),
            'symphony_postgres_connections{state="idle",worker="slo-1"}': at(30),
            'symphony_postgres_connections_max{worker="slo-1"}': at(100),
        },
        [Firing({}, "90%")],
        {
            'symphony_postgres_connections{state="active",worker="slo-1"}': at(60),
            'symphony_postgres_connections{state="active",worker="slo-2"}': at(60),
            'symphony_postgres_connections_max{worker="slo-1"}': at(100),
            'symphony_postgres_connections_max{worker="slo-2"}': at(100),
        },
    ),
    Case(
        "DatabaseLongTransaction",
        {"symphony_postgres_transaction_oldest_seconds": at(600)},
        [Firing({}, "10m 0s")],
        {"symphony_postgres_transaction_oldest_seconds": at(5)},
    ),
    Case("CensusOld", {}, [Firing()], {'symphony_census_age_seconds{source="kafka"}': at(2)}),
    Case(
        "CensusOld",
        {
            'symphony_census_age_seconds{source="kafka"}': at(2),
            'symphony_census_age_seconds{source="postgres"}': at(300),
        },
        [Firing({"source": "postgres"})],
        {},
    ),
    Case(
        "StockCritical",
        {'symphony_stock_low_products{level="critical"}': at(2)},
        [Firing({}, "2")],
        {
            'symphony_stock_low_products{level="critical"}': at(0),
            'symphony_stock_low_products{level="low"}': at(5),
        },
    ),
    Case(
        "ChaosOutsideGameDay",
        {
            'symphony_fault_active{fault="delay"}': at(1),
            'symphony_gameday_phase{phase="method"}': at(0),
        },
        [Firing({"fault": "delay"})],
        {
            'symphony_fault_active{fault="delay"}': at(1),
            'symphony_gameday_phase{phase="method"}': at(1),
        },
    ),
    Case(
        "ChaosWithoutEffect",
        {
            f'symphony_fault_active{{fault="delay",{W}}}': at(1),
            f'symphony_chaos_injected_total{{fault="delay",place="topic",{W}}}': at(3),
        },
        [Firing({"fault": "delay"})],
        {
            f'symphony_fault_active{{fault="delay",{W}}}': at(1),
            'symphony_fault_active{fault="pause",role="slo",worker="slo-1"}': at(1),
            f'symphony_chaos_injected_total{{fault="delay",place="topic",{W}}}': grows(1),
        },
    ),
)

#: A platform that does well, with everything that any alert looks at.
HEALTHY: Mapping[str, Run] = {
    **ALL_UP,
    **{
        f'symphony_slo_burn_rate{{slo="{slo}",window="{window}"}}': at(0.4)
        for slo in SLOS
        for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
    },
    **{
        f'symphony_slo_window_bad_events{{slo="{slo}",window="{window}"}}': at(9)
        for slo in SLOS
        for window in ("1h", "6h", "1d", "3d")
    },
    **{f'symphony_slo_objective_ratio{{slo="{slo}"}}': at(0.95) for slo in SLOS},
    **{f'symphony_slo_budget_left_ratio{{slo="{slo}"}}': at(0.6) for slo in SLOS},
    "symphony_slo_data_age_seconds": at(1),
    ORDERS: grows(20),
    answers("202"): grows(20),
    answers("503"): grows(0.2),
    **QUICK_API,
    **round_trips({0.01: 10}),
    **canary(1, 1),
    "symphony_saga_stuck": at(0),
    'symphony_saga_active{state="PARKED"}': at(0),
    'symphony_saga_active{state="PAYMENT_PENDING"}': at(12),
    'symphony_saga_oldest_age_seconds{state="PAYMENT_PENDING"}': at(1),
    'symphony_dlq_depth{topic="payment.requested.dlt",role="slo"}': at(2),
    dead_lettered("poison"): at(2),
    "symphony_dlq_oldest_age_seconds": at(60),
    f'symphony_dlq_flood{{consumer="payment",{W}}}': at(0),
    f'symphony_breaker_state{{breaker="gateway",state="closed",{W}}}': at(1),
    f'symphony_breaker_state{{breaker="gateway",state="open",{W}}}': at(0),
    **gateway_calls({1: 5}),
    f"symphony_worker_ready{{{W}}}": at(1),
    f"symphony_process_start_time_seconds{{{W}}}": at(1000),
    f"symphony_process_resident_memory_bytes{{{W}}}": at(150 * 2**20),
    **histogram(metrics.LOOP_DELAY, W, {0.01: 1}),
    **histogram(metrics.DB_ACQUIRE, W, {0.01: 1}),
    'symphony_consumer_lag_seconds{role="payment",topic="payment.requested"}': at(0.2),
    'symphony_consumer_members{role="payment"}': at(1),
    f"symphony_delivery_watermark_age_seconds{{{DELIVERY}}}": at(0.3),
    f"symphony_delivery_lag_records{{{DELIVERY}}}": at(3),
    f'symphony_delivery_batch_state{{{CONSUMER},state="waiting"}}': at(0),
    f'symphony_delivery_held{{{CONSUMER},reason="database"}}': at(0),
    f'symphony_commit_age_seconds{{consumer="payment",{W}}}': at(0.4),
    f'symphony_delivery_rebalances_total{{consumer="payment",event="assigned",{W}}}': at(1),
    f'symphony_table_recovery_remaining_records{{table="sagas",{W}}}': at(0),
    "symphony_outbox_oldest_age_seconds": at(0.1),
    "symphony_outbox_parked_rows": at(0),
    'symphony_postgres_connections{state="active"}': at(20),
    "symphony_postgres_connections_max": at(100),
    "symphony_postgres_transaction_oldest_seconds": at(0.2),
    'symphony_census_age_seconds{source="kafka"}': at(2),
    'symphony_census_age_seconds{source="postgres"}': at(2),
    'symphony_stock_low_products{level="critical"}': at(0),
    'symphony_fault_active{fault="delay"}': at(0),
}

#: What fires where nothing is known: whatever is there for missing data, and nothing else.
UNKNOWN: Mapping[str, Sequence[Firing]] = {
    "SloAbsent": [Firing()],
    "CensusOld": [Firing()],
    "RoleAbsent": [role_absent(role) for role in STANDARD],
}
