"""The payment gateway simulator's decisions and its ledger, without HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chaos.gateway_sim.ledger import Ledger, LedgerCorruptError, LedgerLockedError, Line
from chaos.gateway_sim.provider import Answer, Behaviour, Mode, Provider, cancel_key, draw

pytestmark = pytest.mark.unit

AT = datetime(2026, 1, 1, tzinfo=UTC)


def charge(provider: Provider, key: str, amount: int = 1200, body_hash: str = "b") -> Answer:
    line = Line("charge", "order-1", key, amount, "EUR", "", True, 0, body_hash, AT)
    return attempt(provider, line)


def refund(provider: Provider, key: str, charge_key: str) -> Answer:
    line = Line("refund", "order-1", key, 0, "", "", True, 0, charge_key, AT, charge_key)
    return attempt(provider, line)


def cancel(provider: Provider, charge_key: str) -> Answer:
    key = cancel_key(charge_key)
    return attempt(provider, Line("cancel", "order-1", key, 0, "", "", True, 0, "", AT, charge_key))


def attempt(provider: Provider, line: Line) -> Answer:
    entry, luck = provider.begin(line.op, line.idempotency_key)
    line.attempt = entry.attempts
    return provider.decide(line, luck)


def test_repeated_charge_is_replayed() -> None:
    """The same key and body is charged once; the repeat gets the stored reply."""
    provider = Provider()
    first, second = charge(provider, "k"), charge(provider, "k")
    assert (first.status, first.line.outcome) == (200, "ok")
    assert (second.status, second.line.outcome, second.replayed) == (200, "replayed", True)
    assert second.reply == first.reply
    assert second.line.attempt == 2


def test_decline_is_stored() -> None:
    """A declined key stays declined, also after the mode is back to SUCCESS."""
    provider = Provider(Behaviour(mode=Mode.DECLINE))
    assert charge(provider, "k").status == 402
    provider.behaviour = Behaviour()
    again = charge(provider, "k")
    assert (again.status, again.line.outcome, again.line.detail) == (402, "replayed", "declined")
    assert charge(provider, "k2").status == 200


def test_error_is_not_stored() -> None:
    """A key that met an error may still be charged."""
    provider = Provider(Behaviour(mode=Mode.ERROR))
    assert charge(provider, "k").status == 500
    provider.behaviour = Behaviour()
    assert charge(provider, "k").line.outcome == "ok"


@pytest.mark.parametrize(("amount", "status"), [(13, 402), (113, 402), (99913, 402), (1300, 200)])
def test_test_card_amounts_are_declined(amount: int, status: int) -> None:
    """An amount ending in 13 minor units is always declined, others are not."""
    assert charge(Provider(), "k", amount).status == status


def test_key_with_other_parameters_is_refused() -> None:
    """A key used with another body, or for another operation, is 422 and changes nothing."""
    provider = Provider()
    charge(provider, "k", body_hash="one")
    assert charge(provider, "k", body_hash="two").status == 422
    assert refund(provider, "k", "k").status == 422
    assert charge(provider, "k", body_hash="one").line.outcome == "replayed"


def test_cancelled_key_is_never_charged() -> None:
    """Cancelling an unknown key leaves a tombstone that a later charge finds."""
    provider = Provider()
    first, second = cancel(provider, "k"), cancel(provider, "k")
    assert (first.line.outcome, second.line.outcome) == ("ok", "replayed")
    assert first.reply == second.reply
    late = charge(provider, "k")
    assert (late.status, late.line.outcome) == (410, "cancelled")


def test_decided_key_cannot_be_cancelled() -> None:
    """A cancellation that comes too late says what happened and names the payment."""
    provider = Provider()
    paid = charge(provider, "paid")
    charge(provider, "declined", 13)
    captured, declined = cancel(provider, "paid"), cancel(provider, "declined")
    assert captured.line.outcome == "already_captured"
    assert captured.reply is not None
    assert paid.reply is not None
    assert captured.reply.payment_id == paid.reply.payment_id
    assert declined.line.outcome == "already_declined"


def test_charge_is_refunded_once() -> None:
    """One refund moves money; another key is told that it happened before."""
    provider = Provider()
    charge(provider, "k")
    first, repeat, other = (refund(provider, key, "k") for key in ("r1", "r1", "r2"))
    assert (first.line.outcome, first.line.amount_minor, first.line.currency) == ("ok", 1200, "EUR")
    assert repeat.line.outcome == "replayed"
    assert (other.status, other.line.outcome) == (200, "already_refunded")


def test_refused_refund_may_succeed_later() -> None:
    """A refund without its charge is refused but not for ever."""
    provider = Provider()
    assert refund(provider, "r", "k").status == 404
    charge(provider, "k")
    assert refund(provider, "r", "k").line.outcome == "ok"


def test_lost_reply_keeps_the_charge() -> None:
    """A reply lost after the charge is in the ledger as such and replayed on the next attempt."""
    provider = Provider(Behaviour(reply_lost_rate=1.0))
    lost = charge(provider, "k")
    assert lost.reply is None
    assert (lost.line.outcome, lost.line.replied) == ("ok", False)
    provider.behaviour = Behaviour()
    assert charge(provider, "k").line.outcome == "replayed"


def test_luck_depends_on_seed_key_and_attempt_only() -> None:
    """The same seed, key and attempt draw the same luck; rates hold over many keys."""
    assert draw(1, "k", 1) == draw(1, "k", 1)
    assert len({draw(1, "k", 1), draw(2, "k", 1), draw(1, "l", 1), draw(1, "k", 2)}) == 4
    provider = Provider(Behaviour(decline_rate=0.25, seed=7))
    declined = sum(charge(provider, f"k{n}").status == 402 for n in range(4000))
    assert 900 < declined < 1100


@pytest.mark.parametrize(
    "wrong",
    [
        {"decline_rate": 1.1},
        {"error_rate": -0.1},
        {"latency_ms_min": 6.0},
        {"latency_ms_max": 1e9},
        {"hang_s": 0.0},
    ],
)
def test_impossible_behaviour_is_named(wrong: dict[str, float]) -> None:
    """A setting out of its bounds is refused with its name."""
    assert next(iter(wrong)) in Behaviour(**wrong).problem()  # type: ignore[arg-type]


def test_state_is_rebuilt_from_the_ledger(tmp_path: Path) -> None:
    """A provider restored from its ledger answers every key as before."""
    provider, path = Provider(), tmp_path / "deep" / "ledger.jsonl"
    ledger = Ledger(path)
    for answer in (
        charge(provider, "paid"),
        charge(provider, "declined", 13),
        cancel(provider, "gone"),
        refund(provider, "r", "paid"),
        charge(provider, "paid"),
    ):
        ledger.append(answer.line)
    ledger.close()
    restored, ledger = Provider(), Ledger(path)
    for line in ledger.read():
        restored.restore(line)
    assert ledger.lines == 5
    for fresh, old in (
        (charge(restored, "paid"), charge(provider, "paid")),
        (charge(restored, "declined", 13), charge(provider, "declined", 13)),
        (charge(restored, "gone"), charge(provider, "gone")),
        (refund(restored, "r", "paid"), refund(provider, "r", "paid")),
        (refund(restored, "r2", "paid"), refund(provider, "r2", "paid")),
        (cancel(restored, "paid"), cancel(provider, "paid")),
    ):
        assert fresh == old
    ledger.close()


def test_torn_last_line_is_forgotten(tmp_path: Path) -> None:
    """Half a line at the end, as after kill -9, is cut off; its request was never answered."""
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.append(charge(Provider(), "k").line)
    ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    ledger = Ledger(path)
    assert [line.idempotency_key for line in ledger.read()] == ["k"]
    ledger.append(charge(Provider(), "l").line)
    ledger.close()
    lines = path.read_text().splitlines()
    assert [json.loads(line)["idempotency_key"] for line in lines] == ["k", "l"]


def test_only_a_torn_line_is_forgiven(tmp_path: Path) -> None:
    """A broken line in the middle is damage and stops the start."""
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"op": \n{"op": "charge"}\n')
    with pytest.raises(LedgerCorruptError, match=":1:"):
        list(Ledger(path).read())


def test_ledger_has_one_owner(tmp_path: Path) -> None:
    """A second gateway on the same ledger is refused until the first is gone."""
    first = Ledger(tmp_path / "l")
    with pytest.raises(LedgerLockedError):
        Ledger(tmp_path / "l")
    first.close()
    Ledger(tmp_path / "l").close()
