"""The experiments: a play, and the settings it needs; the same with and without a cure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from chaos.ablation import plays
from chaos.ablation.stage import Stage

SOON: Mapping[str, str] = MappingProxyType({"RETRY_TIERS_S": "1"})
#: Nothing but the retry moves an order on.
PATIENT: Mapping[str, str] = MappingProxyType({**SOON, "STEP_DEADLINE_S": "60"})


class Experiment(NamedTuple):
    """`play` drives load and fault; `settings` and `plugins` are those of all workers.

    `fault` says in a few words what breaks.
    """

    name: str
    fault: str
    play: Callable[[Stage], None]
    settings: Mapping[str, str] = SOON
    plugins: tuple[str, ...] = ()
    workers: Mapping[str, int] = MappingProxyType({})
    orders: int = 120


_WITHOUT_BREAKER: Mapping[str, str] = MappingProxyType({"BREAKER_FAILURES_MAX": "1000"})
#: The gateway answers a repeated request; what is lost within one call would be found by the next.
_ONE_CALL: Mapping[str, str] = MappingProxyType({**_WITHOUT_BREAKER, "GATEWAY_ATTEMPTS_MAX": "1"})

EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        one.name: one
        for one in (
            Experiment("undisturbed", "none", plays.undisturbed),
            Experiment(
                "broker-away",
                "the broker is gone while orders are accepted",
                plays.broker_away,
            ),
            Experiment(
                "web-dies",
                "kill -9 of web before a COMMIT",
                plays.crash("web-1", "web.before_commit", 10),
            ),
            Experiment(
                "relay-dies",
                "kill -9 of the relay between read and publish",
                plays.crash("relay-1", "relay.before_publish", 10),
            ),
            Experiment(
                "orchestrator-dies-committed",
                "kill -9 of the orchestrator after a COMMIT",
                plays.crash_on_new_orders("delivery.after_commit"),
                settings={**SOON, "STEP_DEADLINE_S": "3"},
            ),
            Experiment(
                "orchestrator-dies-inside",
                "kill -9 of the orchestrator inside a transaction",
                plays.crash("orchestrator-1", "delivery.in_transaction", 2),
            ),
            Experiment(
                "orchestrator-dies-claiming",
                "kill -9 of the orchestrator before it claims its inbox rows",
                plays.crash("orchestrator-1", "delivery.before_commit", 4),
                settings={**SOON, "STEP_DEADLINE_S": "3"},
            ),
            Experiment(
                "orchestrator-dies-early",
                "kill -9 of the orchestrator before a transaction",
                plays.crash_on_new_orders("delivery.before_transaction"),
            ),
            Experiment(
                "orchestrator-dies-acked",
                "kill -9 of the orchestrator after an offset commit",
                plays.crash("orchestrator-1", "delivery.after_offset_commit", 4),
                settings={**SOON, "STEP_DEADLINE_S": "3"},
            ),
            Experiment(
                "orchestrator-dies-acked-patient",
                "kill -9 of the orchestrator after an offset commit, timers far away",
                plays.crash("orchestrator-1", "delivery.after_offset_commit", 4),
                settings=PATIENT,
            ),
            Experiment("step-raises", "one step of the orchestrator raises", plays.failing_step),
            Experiment("events-fail", "events fail once in the orchestrator", plays.failing_events),
            Experiment(
                "payment-dies",
                "kill -9 of payment between the gateway's answer and its record",
                plays.payment_dies,
            ),
            Experiment(
                "replies-lost",
                "the gateway charges and loses its reply",
                plays.replies_lost,
                settings={**SOON, **_ONE_CALL},
            ),
            Experiment(
                "replies-lost-cancel",
                "the gateway charges and loses its reply, the customer cancels",
                plays.replies_lost_then_cancelled,
                settings={**PATIENT, **_ONE_CALL},
            ),
            *(
                Experiment(
                    f"late-{name}",
                    f"{what} late, the customer cancels",
                    plays.late_and_cancelled,
                    settings=PATIENT,
                    plugins=(f"chaos.ablation.late.{module}",),
                )
                for name, what, module in (
                    ("charge", "charges come", "charge"),
                    ("reservation", "reservations come", "reservation"),
                    ("shipment", "shipments come", "shipment"),
                    ("payment-result", "the news of a charge comes", "payment_result"),
                )
            ),
            Experiment(
                "stale-copies",
                "stale working copies after a zombie's late write, the customer cancels",
                plays.stale_copies_then_cancelled,
                settings=PATIENT,
                plugins=("chaos.ablation.late.stock_commit",),
            ),
            Experiment(
                "contended-stock",
                "two workers at the same products at once",
                plays.contended_stock,
                settings={**SOON, "FAILPOINTS": "inventory.after_lock=delay:40ms"},
                workers={"inventory": 2},
            ),
            Experiment("duplicates", "every command is delivered twice", plays.duplicates),
            Experiment("poison", "unreadable records on a command topic", plays.poison),
            Experiment(
                "gateway-in-error",
                "the gateway fails for longer than the retries last",
                plays.gateway_in_error,
                settings={
                    **SOON,
                    **_WITHOUT_BREAKER,
                    "RETRY_ATTEMPTS_MAX": "1",
                    "STEP_DEADLINE_S": "3",
                },
            ),
            Experiment(
                "letters-sent-back",
                "dead letters of a gateway outage are sent back",
                plays.letters_sent_back,
                settings={
                    **SOON,
                    **_WITHOUT_BREAKER,
                    "RETRY_ATTEMPTS_MAX": "1",
                    "STEP_DEADLINE_S": "3",
                },
            ),
            Experiment(
                "timer-dies",
                "kill -9 of the orchestrator after the commit of a timer",
                plays.timer_then_crash,
                settings={**SOON, "STEP_DEADLINE_S": "2", "REDRIVES_MAX": "0"},
            ),
            Experiment(
                "worker-leaves",
                "an orchestrator leaves, assignments are held before they are read",
                plays.worker_leaves,
                settings={**SOON, "FAILPOINTS": "delivery.after_resume=delay:700ms"},
                workers={"orchestrator": 2},
                orders=600,
            ),
        )
    }
)
