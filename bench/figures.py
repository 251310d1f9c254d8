"""The figures of `bench.orders` and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench import accounting, report
from bench.accounting import Memory
from bench.sender import Sent


def summary(
    rate: float,
    sent: Sent,
    accepted: Mapping[str, float],
    completed: Mapping[str, float],
    used: Mapping[str, float],
) -> dict[str, Any]:
    """The figures of one rate."""
    offered_s = sent.ended_s - sent.began_s
    in_time = [a for a in sent.answers if a.order_id and a.returned_s <= sent.ended_s]
    last = max(completed.values(), default=sent.ended_s)
    # the pipeline is empty at first: completions count from one second on, until the load ends
    steady = [at for at in completed.values() if sent.began_s + 1 < at <= sent.ended_s]
    count = max(1, len(completed))
    statuses: dict[int, int] = {}
    for answer in sent.answers:
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
    return {
        "rate": rate,
        "offered": len(sent.answers),
        "offered_per_s": round(len(sent.answers) / offered_s, 1),
        "generator_late_ms": round(sent.late_ms, 1),
        "statuses": statuses,
        "accepted": len(accepted),
        "accepted_per_s": round(len(in_time) / offered_s, 1),
        "completed": len(completed),
        "completed_per_s": round(len(steady) / max(0.5, offered_s - 1), 1),
        "last_completed_after_load_s": round(max(0.0, last - sent.ended_s), 2),
        "accepted_ms": report.percentiles(
            [a.returned_s - a.intended_s for a in sent.answers if a.order_id], 1e3
        ),
        "completed_ms": report.percentiles(
            [at - accepted[one] for one, at in completed.items()], 1e3
        ),
        "cpu_us": {name: round(s / count * 1e6) for name, s in used.items()},
        "cpu_us_per_order": round(sum(used.values()) / count * 1e6),
        "generator_us_per_order": round(sent.cpu_s / count * 1e6),
    }


def relay_ms(grew: Mapping[str, accounting.Series]) -> dict[str, float | None]:
    """Commit to acknowledgement of the relay, from its histogram (interpolated)."""
    found = {}
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        value = accounting.histogram_quantile(grew, "symphony_relay_publish_seconds", share)
        found[name] = None if value is None else round(value * 1e3, 1)
    return found


def memory(used: Mapping[str, Memory]) -> dict[str, Any]:
    """RSS by process, and the sums of RSS and of PSS (shared pages once)."""
    return {
        "by_process": {name: round(one.rss) for name, one in used.items()},
        "rss": round(sum(one.rss for one in used.values())),
        "pss": round(sum(one.pss for one in used.values())),
    }


def page(facts: Mapping[str, Any]) -> list[str]:
    """The tables."""
    rates: list[dict[str, Any]] = facts["rates"]
    lines = [
        "Happy orders on a fixed schedule; latency from the intended send time, in ms. CPU is",
        "microseconds per completed order of everything, idle work included, the load generator",
        "apart.",
        "",
    ]
    lines += report.table(
        ["offered/s", "accepted/s", "completed/s", "accepted p50 / p95 / p99",
         "to COMPLETED p50 / p95 / p99", "CPU us/order", "generator us", "cores", "others",
         "relay p99 ms", "left"],
        [
            [r["offered_per_s"], r["accepted_per_s"], r["completed_per_s"],
             _three(r["accepted_ms"]), _three(r["completed_ms"]), r["cpu_us_per_order"],
             r["generator_us_per_order"], r["cores_used"], f"{r['other_load']:.0%}",
             r["relay_ms"]["p99"], r["unfinished"]]
            for r in rates
        ],
    )  # fmt: skip
    names = sorted({name for r in rates for name in r["cpu_us"]})
    titles = [f"{r['rate']:g}/s" for r in rates]
    lines += ["", "CPU, us per completed order:", ""]
    lines += report.table(
        ["process", *titles], [[name, *(r["cpu_us"].get(name) for r in rates)] for name in names]
    )
    consumers = sorted({name for r in rates for name in r["steps"]})
    lines += ["", "Records per step (web: orders per transaction, relay: rows per round):", ""]
    lines += report.table(
        ["consumer", *titles],
        [
            [name, *(r["steps"].get(name, {}).get("records_per_step") for r in rates)]
            for name in consumers
        ],
    )
    lines.append("")
    if facts.get("idle"):
        lines += [f"Idle, all processes: {facts['idle']['cores']} cores.", ""]
    if facts.get("drain"):
        d = facts["drain"]
        lines += [
            f"Backlog: {d['completed']} orders drained in {d['drain_s']} s from the first saga =",
            f"**{d['orders_per_s']}/s**, {d['cpu_us_per_order']} us CPU per order; orchestrator",
            f"start to first saga {d['start_to_first_saga_s']} s.",
            "",
        ]
    if rates:
        m = rates[-1]["memory_mb"]
        lines.append(f"Memory after the last rate: RSS {m['rss']} MB, PSS {m['pss']} MB.")
    return lines


def _three(values: Mapping[str, Any]) -> str:
    return f"{values['p50']} / {values['p95']} / {values['p99']}"
