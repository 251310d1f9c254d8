"""The parts of experiments that need no server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from app import failpoints
from app.domain.definition import State
from app.domain.record import Saga, StepRecord, to_bytes
from app.errors import Indefinite
from app.failpoints import Hit
from app.messages import PaymentRefund, PaymentRequested
from app.settings import Settings
from chaos.ablation.experiments import EXPERIMENTS, Experiment
from chaos.ablation.late.first_delivery import POINT, hold_back
from chaos.ablation.stale import records_before
from chaos.naive.blind_replay import redrive
from chaos.naive.tombstones import answer_apart
from chaos.records import Record
from chaos.rules import parse_rules
from tests.contracts.samples import SAMPLES

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("one", EXPERIMENTS.values(), ids=lambda one: one.name)
def test_an_experiment_uses_what_there_is(one: Experiment) -> None:
    """Its settings are settings, its rules are rules, its plug-ins can be named."""
    settings = {name.lower(): value for name, value in one.settings.items()}
    parse_rules(settings.get("failpoints", ""))
    plugins = ",".join(one.plugins)
    assert Settings(role="payment", lab=True, plugins=plugins, **settings).plugin_modules == (
        one.plugins
    )
    assert one.play.__doc__ or "crash" in one.play.__qualname__
    assert one.orders <= 600


def saga(key: bytes, state: State, offset: int) -> Record:
    """A changelog record."""
    value = to_bytes(
        Saga(
            schema=1,
            definition="order.v1",
            order_id=key.decode(),
            version=offset,
            state=state,
            reason="",
            steps=(StepRecord(),),
        )
    )
    return Record("changelog", 0, key, value, offset=offset)


def test_only_waiting_sagas_are_made_stale() -> None:
    """The record before the last state of those that wait; ended and forgotten ones are left."""
    shipping, commit, done = State.SHIPPING_PENDING, State.COMMIT_PENDING, State.COMPLETED
    changelog = [
        saga(b"waits", State.PAYMENT_PENDING, 1),
        saga(b"waits", shipping, 2),
        saga(b"waits", commit, 3),
        saga(b"ended", shipping, 4),
        saga(b"ended", commit, 5),
        saga(b"ended", done, 6),
        saga(b"forgotten", commit, 7),
        Record("changelog", 0, b"forgotten", None, offset=8),
        saga(b"first seen", commit, 9),
    ]
    assert [one.offset for one in records_before(changelog)] == [2]


def event(topic: str, delivery: int, body: Any = None) -> SimpleNamespace:
    """What the plug-ins look at in an event."""
    return SimpleNamespace(topic=topic, delivery=delivery, body=body, key=b"k")


async def test_only_first_deliveries_are_held_back() -> None:
    """The second delivery of the same message passes, as do other topics and other roles."""
    app: Any = SimpleNamespace(role=SimpleNamespace(name="payment"))
    try:
        hold_back(app, "shipping", "payment.requested", lambda _: True)
        assert failpoints.action_at(POINT) is None
        hold_back(app, "payment", "payment.requested", lambda body: body == "chosen")
        act = failpoints.action_at(POINT)
        assert act is not None
        for passing in (
            event("payment.requested", 1, "chosen"),
            event("payment.refund", 0, "chosen"),
            event("payment.requested", 0, "other"),
        ):
            await act(Hit(POINT, [passing]))
        with pytest.raises(Indefinite):
            await act(Hit(POINT, [event("payment.requested", 0, "chosen")]))
    finally:
        failpoints.remove(POINT)


def command(kind: type, order_id: str) -> Any:
    """A command of an order."""
    body = next(body for body in SAMPLES if isinstance(body, kind))
    return SimpleNamespace(body=msgspec.structs.replace(body, order_id=order_id))


async def test_early_compensations_are_answered_apart() -> None:
    """Those of orders nobody knows; the others are work, and answers keep the events' order."""
    early, known = command(PaymentRefund, "early"), command(PaymentRefund, "known")
    charge, its_refund = command(PaymentRequested, "both"), command(PaymentRefund, "both")
    worked: list[Any] = []

    async def work(rest: Any) -> list[str]:
        worked.extend(rest)
        return ["worked"] * len(rest)

    answers = await answer_apart(
        [charge, early, known, its_refund], {"known"}, PaymentRefund, lambda _: "forgot", work
    )
    assert answers == ["worked", "forgot", "worked", "worked"]
    assert worked == [charge, known, its_refund]


def test_a_blind_replay_is_another_event() -> None:
    """The id changes, the same way each time, and nothing says that it was sent back."""
    headers = (
        ("ce_id", b"2d437eb9-4c92-56e1-8380-9ee621ea46a3"),
        ("x-original-topic", b"payment.requested"),
    )
    letter = Record("payment.requested.dlt", 1, b"k", b"{}", headers, 5)
    first, second = redrive(letter), redrive(letter)
    assert first == second
    assert first.topic == "payment.requested"
    sent = dict(first.headers)
    assert sent["ce_id"] != headers[0][1]
    assert "x-redrives" not in sent
