"""What the provider decides: captures, refunds and cancellations by idempotency key.

Pure apart from its own state: no clock, no randomness, no I/O. `decide` turns one attempt into a
ledger line and a reply; the caller writes the line, then replies. The same seed, key and attempt
number always draw the same luck, so a run can be repeated.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

if TYPE_CHECKING:
    from chaos.gateway_sim.ledger import Line

#: The sandbox's test card: an amount (minor units) ending in 13 is always declined.
DECLINED_AMOUNT_ENDING = 13

_FOUR_WORDS = Struct(">4I").unpack

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Mode(StrEnum):
    """How the gateway answers: as usual, with 500, with a decline, or not at all."""

    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    DECLINE = "DECLINE"
    TIMEOUT = "TIMEOUT"


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of GET/PUT /v1/mode. Rates are shares from 0 to 1, latencies milliseconds."""

    mode: Mode = Mode.SUCCESS
    decline_rate: float = 0.0
    error_rate: float = 0.0
    reply_lost_rate: float = 0.0
    latency_ms_min: float = 0.0
    latency_ms_max: float = 5.0
    hang_s: float = 30.0
    seed: int = 0

    def problem(self) -> str:
        """Return why these settings are not usable, or an empty text."""
        for name in ("decline_rate", "error_rate", "reply_lost_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                return f"{name} must be between 0 and 1"
        if not 0.0 <= self.latency_ms_min <= self.latency_ms_max <= 60_000.0:
            return "0 <= latency_ms_min <= latency_ms_max <= 60000 must hold"
        if not 0.0 < self.hang_s <= 600.0:
            return "hang_s must be above 0 and at most 600"
        return ""


class Luck(NamedTuple):
    """Four numbers in [0, 1) drawn for one attempt."""

    latency: float
    error: float
    decline: float
    reply_lost: float


def draw(seed: int, key: str, attempt: int) -> Luck:
    """Return the luck of one attempt: a function of its arguments and nothing else."""
    digest = blake2b(f"{seed}:{key}:{attempt}".encode(), digest_size=16).digest()
    latency, error, decline, reply_lost = _FOUR_WORDS(digest)
    return Luck(latency / 2**32, error / 2**32, decline / 2**32, reply_lost / 2**32)


class ChargeBody(msgspec.Struct, frozen=True):
    """Body of POST /v1/charges; money in minor units."""

    order_id: Name
    amount_minor: Annotated[int, msgspec.Meta(gt=0, lt=2**53)]
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]


class RefundBody(msgspec.Struct, frozen=True):
    """Body of POST /v1/refunds: refund the whole charge that was made under `charge_key`."""

    order_id: Name
    charge_key: Name


class CancelBody(msgspec.Struct, frozen=True):
    """Body of POST /v1/charges/{key}/cancel; the order is only noted in the ledger."""

    order_id: str = ""


class Reply(msgspec.Struct, frozen=True):
    """What the client gets to read."""

    outcome: str
    payment_id: str = ""
    reason: str = ""


class Answer(NamedTuple):
    """One attempt decided: the line to write, then the reply to send (None: send none)."""

    line: Line
    status: int
    reply: Reply | None
    replayed: bool = False


class Entry(msgspec.Struct, gc=False):
    """All that is known of one idempotency key. `outcome` is empty until it is definite."""

    op: str
    order_id: str = ""
    amount_minor: int = 0
    currency: str = ""
    body_hash: str = ""
    outcome: str = ""
    attempts: int = 0
    in_flight: bool = False
    refunded: bool = False


_UNDECIDED = ("error", "timeout")
_STATUS = {"ok": 200, "declined": 402, "cancelled": 410, "already_refunded": 200}
_REASON = {
    "declined": "card_declined",
    "cancelled": "key_cancelled",
    "already_refunded": "charge_already_refunded",
}


def payment_id(key: str) -> str:
    """Return the provider's id of the payment made under `key`: the same after every restart."""
    return "pay_" + blake2b(key.encode(), digest_size=12).hexdigest()


def body_hash(encoded: bytes) -> str:
    """Return the fingerprint that tells whether two requests with one key are the same."""
    return blake2b(encoded, digest_size=16).hexdigest()


def cancel_key(charge_key: str) -> str:
    """Return the key under which cancellations of `charge_key` are counted."""
    return f"cancel:{charge_key}"


class Provider:
    """Keys and what became of them. Rebuilt from the ledger by `restore` of its every line."""

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self._entries: dict[str, Entry] = {}

    def find(self, key: str) -> Entry | None:
        """Return what is known of `key`, if anything."""
        return self._entries.get(key)

    def restore(self, line: Line) -> None:
        """Take over one ledger line of an earlier process. Lines must come in their order."""
        entry = self._entries.setdefault(line.idempotency_key, Entry(line.op))
        entry.attempts = max(entry.attempts, line.attempt)
        if line.op == "cancel":
            if line.outcome == "ok":
                self._tombstone(line.charge_key, line.order_id)
        elif not entry.outcome and (line.outcome in _STATUS or line.outcome in _UNDECIDED):
            self._remember(entry, line)
            if line.outcome in _STATUS:
                self._settle(entry, line)

    def begin(self, op: str, key: str) -> tuple[Entry, Luck]:
        """Count an attempt with `key`, return its luck. The caller looks at `in_flight` first."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(op)
        entry.attempts += 1
        return entry, draw(self.behaviour.seed, key, entry.attempts)

    def decide(self, line: Line, luck: Luck) -> Answer:
        """Decide the attempt that `line` describes, at the moment when it takes effect."""
        if self.behaviour.mode is Mode.ERROR or luck.error < self.behaviour.error_rate:
            line.outcome = "error"
            return Answer(line, 500, Reply("error", reason="internal_error"))
        if line.op == "cancel":
            return self._cancel(line, luck)
        entry = self._entries[line.idempotency_key]
        known = self._known(entry, line)
        if known is not None:
            return known
        self._remember(entry, line)
        if line.op == "refund":
            return self._refund(entry, line, luck)
        declined = (
            self.behaviour.mode is Mode.DECLINE
            or line.amount_minor % 100 == DECLINED_AMOUNT_ENDING
            or luck.decline < self.behaviour.decline_rate
        )
        return self._executed(entry, line, "declined" if declined else "ok", luck)

    def busy(self, line: Line) -> Answer:
        """Answer 409: another request with this key has not been decided yet."""
        line.outcome = "in_flight"
        return Answer(line, 409, Reply("in_flight", reason="key_in_flight"))

    def _refund(self, entry: Entry, line: Line, luck: Luck) -> Answer:
        """Refund a captured charge, whole and at most once.

        A refusal is not stored: the charge may still be under way, and a refund that was refused
        for ever would keep the buyer's money.
        """
        charge = self._entries.get(line.charge_key)
        if charge is not None and charge.in_flight:
            return self.busy(line)
        if charge is None or charge.op != "charge" or charge.outcome != "ok":
            line.outcome = "refused"
            return Answer(line, 404, Reply("refused", reason="no_such_charge"))
        line.amount_minor, line.currency = charge.amount_minor, charge.currency
        return self._executed(entry, line, "already_refunded" if charge.refunded else "ok", luck)

    def _cancel(self, line: Line, luck: Luck) -> Answer:
        """Cancel a key: afterwards it was captured or declined before, or never will be."""
        entry = self._entries.get(line.charge_key)
        if entry is not None:
            line.order_id = line.order_id or entry.order_id
            line.amount_minor, line.currency = entry.amount_minor, entry.currency
        shown = "cancelled"
        if entry is None or entry.outcome == "":
            line.outcome = "ok"
            self._tombstone(line.charge_key, line.order_id)
        elif entry.outcome == "cancelled":
            line.outcome, line.detail = "replayed", "ok"
        else:
            line.outcome = "already_captured" if entry.outcome == "ok" else "already_declined"
            shown = line.outcome
        identity = payment_id(line.charge_key) if shown == "already_captured" else ""
        return self._unless_lost(line, 200, Reply(shown, identity), luck)

    def _known(self, entry: Entry, line: Line) -> Answer | None:
        """Return the answer when the key was decided before or is used with another body."""
        if entry.op != line.op or (entry.body_hash and entry.body_hash != line.body_hash):
            line.outcome = "mismatch"
            return Answer(line, 422, Reply("mismatch", reason="key_reused_with_other_parameters"))
        if not entry.outcome:
            return None
        reply = self._reply(entry.outcome, line.idempotency_key)
        if entry.outcome == "cancelled":
            line.outcome = "cancelled"
            return Answer(line, 410, reply)
        line.outcome, line.detail, line.payment_id = "replayed", entry.outcome, reply.payment_id
        return Answer(line, _STATUS[entry.outcome], reply, replayed=True)

    def _executed(self, entry: Entry, line: Line, outcome: str, luck: Luck) -> Answer:
        line.outcome = outcome
        reply = self._reply(outcome, line.idempotency_key)
        line.payment_id = reply.payment_id
        self._settle(entry, line)
        return self._unless_lost(line, _STATUS[outcome], reply, luck)

    def _unless_lost(self, line: Line, status: int, reply: Reply, luck: Luck) -> Answer:
        """Lose the reply, after the effect, at the configured rate."""
        if luck.reply_lost < self.behaviour.reply_lost_rate:
            line.replied = False
            return Answer(line, status, None)
        return Answer(line, status, reply)

    def _remember(self, entry: Entry, line: Line) -> None:
        entry.order_id, entry.amount_minor = line.order_id, line.amount_minor
        entry.currency, entry.body_hash = line.currency, line.body_hash

    def _settle(self, entry: Entry, line: Line) -> None:
        entry.outcome, entry.amount_minor = line.outcome, line.amount_minor
        if line.op == "refund" and line.outcome == "ok":
            self._entries[line.charge_key].refunded = True

    def _tombstone(self, charge_key: str, order_id: str) -> None:
        entry = self._entries.setdefault(charge_key, Entry("charge"))
        entry.outcome = "cancelled"
        entry.order_id = entry.order_id or order_id

    def _reply(self, outcome: str, key: str) -> Reply:
        return Reply(outcome, payment_id(key) if outcome == "ok" else "", _REASON.get(outcome, ""))
