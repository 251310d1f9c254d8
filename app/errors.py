"""Every error the platform raises on purpose, by what it says about the effect.

*Definite*: the effect surely did not happen, so it may be compensated or tried under a new id.
*Indefinite*: it may have happened, so only the same id may be tried again. *Poison*: it never will
happen, so the record is parked. Codes are stable: they stand in headers, tables, metrics and
`docs/reference/errors.md` (`python -m app.errors` prints it). A business refusal (card declined,
out of stock) is an event and never appears here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator


class SymphonyError(Exception):
    """An error with a stable `code` and a one-line `doc`; `str()` gives `code: detail`."""

    code: ClassVar[str] = "error"
    doc: ClassVar[str] = "Any error of the platform."

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


class Definite(SymphonyError):
    """The effect did not happen."""

    code = "definite"
    doc = "The effect surely did not happen: compensate, or try again under any id."


class Indefinite(SymphonyError):
    """The effect may have happened."""

    code = "indefinite"
    doc = "The effect may have happened: try again with the same id only."


class Poison(SymphonyError):
    """The record will never be processed as it is; `reason` is one of `POISON_REASONS`."""

    code = "poison"
    doc = "The record can never be processed: park it with its reason."

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason


POISON_REASONS: dict[str, str] = {
    "bad_body": "The JSON does not fit the declared type (missing, wrong type, out of bounds).",
    "bad_command": "The command contradicts what is recorded for its order.",
    "bad_header": "A header is missing, empty, too long, not UTF-8 or not of its form.",
    "bad_id": "`ce_id` is not a UUID.",
    "bad_json": "The value is not JSON (truncated, NaN, trailing bytes, control characters).",
    "bad_key": "The key is not the identifier its topic is keyed by.",
    "bad_utf8": "The value is not UTF-8.",
    "duplicate_header": "A header the platform reads is present more than once.",
    "illegal_transition": "The event is impossible in the state its order is in.",
    "killed_worker": "The record ended its worker process too often.",
    "nul_character": "A string contains U+0000, which the database cannot store.",
    "null_key": "The record has no key.",
    "null_value": "The record has no value.",
    "too_deep": "The JSON is nested too deeply.",
    "too_large": "The value is larger than any message may be.",
    "too_many_headers": "The record has more headers than any message may have.",
    "unexpected_type": "`ce_type` does not belong on this topic.",
    "unknown_schema": "A stored record was written by a schema this code does not know.",
    "unknown_topic": "The topic carries no declared message type.",
    "unknown_version": "`ce_type` names a major version this code does not know.",
    "wrong_key": "The key differs from the identifier in the body.",
}


class TransientDatabase(Definite):
    """The transaction was rolled back by a conflict; repeating the whole of it is safe."""

    code = "database_transient"
    doc = (
        "Deadlock, serialization failure, lock or statement timeout: repeat the batch with jitter."
    )


class RowsMissed(TransientDatabase):
    """A guarded write touched fewer rows than it must: another transaction was faster."""

    code = "rows_missed"
    doc = "A row was written by somebody else since it was read: read again, decide again."


class DatabaseOutage(Indefinite):
    """PostgreSQL cannot be reached, or was lost before the commit was acknowledged."""

    code = "database_outage"
    doc = "PostgreSQL is away or was lost during commit: hold the batch and repeat it."


class BrokerOutage(Indefinite):
    """Kafka cannot be reached, or did not acknowledge a send in time."""

    code = "broker_outage"
    doc = "Kafka is away or did not acknowledge: nothing is committed, the batch is repeated."


class GatewayUnavailable(Indefinite):
    """The payment gateway answered 5xx, or the connection broke."""

    code = "gateway_unavailable"
    doc = "The payment gateway failed: the same idempotency key is tried again later."


class SinkUnavailable(Indefinite):
    """A notification sink did not take a notification, or did not say so."""

    code = "sink_unavailable"
    doc = "The notification sink failed: the same notification is tried again later."


class GatewayTimeout(Indefinite):
    """The payment gateway did not answer before the deadline."""

    code = "gateway_timeout"
    doc = "The payment gateway was silent past the deadline: same idempotency key, later."


class BreakerOpen(Indefinite):
    """The call was not made because the circuit breaker is open; an earlier call may have been."""

    code = "breaker_open"
    doc = "The circuit breaker is open, this call was not made: same idempotency key, later."


class Overtaken(Definite):
    """A command came before the one it builds on; it is tried again from a retry tier."""

    code = "overtaken"
    doc = "A command came before the one it builds on: it is tried again from a retry tier."


class LeaseLost(Definite):
    """This worker can no longer show that it owns its partitions; it must end."""

    code = "lease_lost"
    doc = "No fresh heartbeat within a session timeout: the worker ends before doing anything else."


class OutageBudgetSpent(Indefinite):
    """A batch was held longer than the outage budget; the process must end."""

    code = "outage_budget_spent"
    doc = "A dependency stayed away longer than `outage_budget_s`: the worker ends."


class InvalidSettings(Definite):
    """Settings are unknown, malformed or contradict each other; nothing was started."""

    code = "invalid_settings"
    doc = "A setting is unknown, malformed or contradicts another one: nothing was started."


class BrokenObjective(Definite):
    """A file that declares a service level objective cannot be used; nothing is judged by it."""

    code = "broken_objective"
    doc = "An OpenSLO file cannot be used: the message names the file and what is wrong with it."


def catalogue() -> Iterator[type[SymphonyError]]:
    """Yield every error class of this module once, parents before children."""
    pending: list[type[SymphonyError]] = [SymphonyError]
    while pending:
        cls = pending.pop(0)
        yield cls
        pending.extend(sub for sub in cls.__subclasses__() if sub.__module__ == cls.__module__)


def reference() -> str:
    """Return the Markdown of `docs/reference/errors.md`."""
    lines = [
        "# Errors",
        "",
        "Generated by `python -m app.errors`.",
        "",
        "| code | kind | meaning |",
        "|---|---|---|",
    ]
    for cls in catalogue():
        kind = next((k.code for k in (Definite, Indefinite, Poison) if issubclass(cls, k)), "")
        lines.append(f"| `{cls.code}` | {kind} | {cls.doc} |")
    lines += ["", "## Reasons of poison", "", "| reason | meaning |", "|---|---|"]
    lines += [f"| `{reason}` | {doc} |" for reason, doc in POISON_REASONS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
