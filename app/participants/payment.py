"""The payment handler: charges and refunds through the gateway, each order at most once.

The gateway is called between two transactions. The first records what is about to be tried, the
second what came of it; a crash in between repeats the call with the same idempotency key, which
the gateway answers without charging again. Roles `payment` and `payment-canary` run it: whatever
arm tries a command, and however often, the key is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from app import ids
from app.db import payments
from app.delivery import Applied, Call, Event, Reply, Retry
from app.domain import payment as domain
from app.domain.payment import Attempt, Charge, Refund
from app.errors import SymphonyError
from app.failpoints import failpoint
from app.gateway.client import GatewayClient
from app.gateway.replies import GatewayReply, Outcome
from app.messages import Output, PaymentRequested, PaymentResult, emit
from app.observability import metrics
from app.topics import PAYMENT_RESULT

if TYPE_CHECKING:
    from app.db.engine import Transaction

_OUTCOMES: Mapping[str, str] = {"OK": "charged", "DECLINED": "declined"}


class Begun(NamedTuple):
    """A call that is due, and the attempt as it was recorded before."""

    call: Charge | Refund
    attempt: Attempt


class Payments:
    """Charge and refund commands by order, commutative per order; answers payment.result."""

    def __init__(
        self, source: str, gateway: GatewayClient, arm: Literal["stable", "canary"] = "stable"
    ) -> None:
        """`source` is the CloudEvents source of the results; attempts are recorded as `arm`'s."""
        self._source = source
        self._gateway = gateway
        self._arm = arm

    async def begin(
        self, tx: Transaction, events: Sequence[Event], now: datetime
    ) -> list[Applied | Call | Retry]:
        """Record every attempt before its call; answer at once what needs no call."""
        known = await payments.lock(tx, _to_read(tx, events))
        current = dict(known)
        begun: list[Applied | Call | Retry] = []
        for event in events:
            order_id = event.body.order_id
            decision = domain.begin(current.get(order_id), event.event_id, event.body, now)
            current[order_id] = decision.attempt
            if decision.call is not None:
                begun.append(Call(Begun(decision.call, decision.attempt)))
            else:
                begun.append(self._answer(event, decision, now))
        payments.store(tx, known, _changed(known, current), arm=self._arm)
        return begun

    async def call(self, begun: Begun) -> domain.Reply:
        """Call the gateway; the key is the same however often this is repeated.

        Raises app.errors.Indefinite when nothing definite is known.
        """
        await failpoint("payment.before_call")
        request = begun.call
        if isinstance(request, Charge):
            reply = _charged(
                await self._gateway.charge(
                    request.key,
                    order_id=request.order_id,
                    amount_minor=request.amount_minor,
                    currency=request.currency,
                )
            )
        else:
            reply = await self._refund(request)
        await failpoint("payment.after_call")
        return reply

    async def complete(
        self, tx: Transaction, replies: Sequence[Reply], now: datetime
    ) -> list[Applied | Retry]:
        """Record what the gateway said; an attempt that was settled meanwhile stays as it is."""
        if tx.guessing:
            known = _latest(reply.request.attempt for reply in replies)
        else:
            known = await payments.lock(tx, (reply.event.body.order_id for reply in replies))
        current = dict(known)
        completed: list[Applied | Retry] = []
        charges: Counter[str] = Counter()
        for event, _, result in replies:
            if isinstance(result, SymphonyError):
                completed.append(Retry(result))
                continue
            order_id = event.body.order_id
            decision = domain.complete(current[order_id], event.event_id, event.body, result)
            current[order_id] = decision.attempt
            if isinstance(event.body, PaymentRequested) and decision.result is not None:
                charges[_OUTCOMES.get(decision.result.outcome, "cancelled")] += 1
            completed.append(self._answer(event, decision, now))
        payments.store(tx, known, _changed(known, current), arm=self._arm)
        tx.after_commit(lambda: self._count(charges))
        return completed

    def retrying(
        self, event: Event, error: SymphonyError, due_at: datetime, now: datetime
    ) -> tuple[Output, ...]:
        """Tell the saga when the command is tried again."""
        body = domain.notice(
            event.event_id, event.body, "RETRYING", reason=error.code, due_at=due_at
        )
        return (self._notice(event, body, now),)

    def parked(self, event: Event, error: SymphonyError, now: datetime) -> tuple[Output, ...]:
        """Tell the saga that an operator must act."""
        body = domain.notice(event.event_id, event.body, "PARKED", reason=error.code)
        return (self._notice(event, body, now),)

    def moved(self, event: Event, *, parked: bool) -> None:
        """Count a charge that was not answered."""
        if isinstance(event.body, PaymentRequested):
            self._count({"parked" if parked else "retried": 1})

    def _count(self, charges: Mapping[str, int]) -> None:
        for outcome, count in charges.items():
            metrics.CANARY_RESULTS.child(self._arm, outcome).inc(count)

    async def _refund(self, request: Refund) -> domain.Reply:
        """Refund; a charge whose outcome is unknown is cancelled first and refunded if captured."""
        if request.cancel_first:
            cancelled = await self._gateway.cancel(request.charge_key, order_id=request.order_id)
            if cancelled.outcome is not Outcome.ALREADY_CAPTURED:
                return domain.NothingCaptured()
            await failpoint("payment.between_cancel_and_refund")
        refunded = await self._gateway.refund(
            request.key, order_id=request.order_id, charge_key=request.charge_key
        )
        if refunded.outcome is Outcome.OK:
            return domain.Refunded()
        return domain.Declined(refunded.reason)

    def _answer(self, event: Event, decision: domain.Decision, now: datetime) -> Applied:
        if decision.result is None:
            raise TypeError("a decision without a call must have a result")
        identity = ids.result_id(event.event_id, decision.result.state_version)
        return Applied((self._emit(event, decision.result, identity, now),))

    def _notice(self, event: Event, body: PaymentResult, now: datetime) -> Output:
        identity = ids.notice_id(event.event_id, body.outcome, event.delivery, now)
        return self._emit(event, body, identity, now)

    def _emit(self, event: Event, body: PaymentResult, identity: str, now: datetime) -> Output:
        return emit(event, PAYMENT_RESULT, body, event_id=identity, now=now, source=self._source)


def _to_read(tx: Transaction, events: Sequence[Event]) -> Iterable[str]:
    """Orders that may have an attempt; a charge's most likely has none: its insert is guarded."""
    for event in events:
        if not (tx.guessing and isinstance(event.body, PaymentRequested)):
            yield event.body.order_id


def _latest(attempts: Iterable[Attempt]) -> dict[str, Attempt]:
    """The newest record of each order; a charge and its refund may be under way together."""
    latest: dict[str, Attempt] = {}
    for one in attempts:
        known = latest.get(one.order_id)
        if known is None or known.version < one.version:
            latest[one.order_id] = one
    return latest


def _charged(reply: GatewayReply) -> domain.Reply:
    if reply.outcome is Outcome.OK:
        return domain.Charged(reply.payment_id)
    if reply.outcome is Outcome.KEY_CANCELLED:
        return domain.KeyCancelled()
    return domain.Declined(reply.reason)


def _changed(known: dict[str, Attempt], current: dict[str, Attempt]) -> list[Attempt]:
    return [one for one in current.values() if one is not known.get(one.order_id)]
