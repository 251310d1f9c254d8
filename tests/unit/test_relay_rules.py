"""The relay's pure rules: how shards are shared, what is held back, what is parked."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from aiokafka import errors

from app.db.leases import Lease
from app.db.outbox import SHARDS, OutboxRow, shard_of
from app.messages import Output
from app.relay.publisher import is_hopeless, is_refusal
from app.relay.refusals import ATTEMPTS_MAX, HELD_MAX, Refusals, Refused
from app.relay.shares import ready_to_release, share_out

pytestmark = pytest.mark.unit


def leases(*owners: str, live: bool = True) -> list[Lease]:
    return [Lease(shard, owner, 7, live and owner != "") for shard, owner in enumerate(owners)]


def row(attempts: int = 0, key: str = "a") -> OutboxRow:
    record = Output("t", key.encode(), b"", [])
    return OutboxRow(1, 0, key, attempts, datetime(2026, 1, 1, tzinfo=UTC), record)


def test_lone_relay_takes_everything_under_new_epochs() -> None:
    """Free and expired shards are taken, each with a higher epoch than it ever had."""
    shares = share_out(leases("", "dead", "", "dead", live=False), "me", {}, 1)
    assert shares.epochs == {0: 8, 1: 8, 2: 8, 3: 8}


def test_live_leases_of_others_are_left_alone() -> None:
    """A relay that is short of shards takes only what is free."""
    shares = share_out(leases("other", "other", "", "other"), "me", {}, 2)
    assert shares.epochs == {2: 8}


def test_share_is_rounded_up_and_the_rest_is_surplus() -> None:
    """With three relays and eight shards nobody keeps more than three."""
    held = dict.fromkeys(range(8), 7)
    shares = share_out(leases(*["me"] * 8), "me", held, 3)
    assert shares.epochs == held
    assert shares.surplus == (3, 4, 5, 6, 7)


def test_lease_under_another_epoch_is_lost() -> None:
    """A shard that somebody took and gave back meanwhile is not ours until it is taken anew."""
    shares = share_out(leases("me", "other"), "me", {0: 6, 1: 7}, 1)
    assert shares.epochs == {0: 8}


def test_predecessor_of_the_same_name_is_replaced_at_once() -> None:
    """A restarted worker takes its own unexpired leases under new epochs, without waiting."""
    shares = share_out(leases("me", "me"), "me", {}, 1)
    assert shares.epochs == {0: 8, 1: 8}


def test_shard_in_flight_is_not_given_back() -> None:
    """A surplus shard is released only when none of its rows is being published."""
    assert ready_to_release({1, 2, 3}, {2}) == [1, 3]


def test_refused_aggregate_is_held_longer_each_time() -> None:
    """The pause doubles with every refusal and ends."""
    refusals = Refusals()
    refusals.hold(row(attempts=0), 100.0)
    assert refusals.held(100.4) == ["a"]
    assert refusals.held(100.6) == []
    refusals.hold(row(attempts=2), 100.0)
    assert refusals.held(101.9) == ["a"]


def test_row_is_parked_when_hopeless_or_refused_too_often() -> None:
    """A hopeless row is parked at once, another after ATTEMPTS_MAX, any when too many are held."""
    refusals = Refusals()
    assert refusals.must_park(Refused(row(), "too large", True))
    assert not refusals.must_park(Refused(row(ATTEMPTS_MAX - 2), "not allowed", False))
    assert refusals.must_park(Refused(row(ATTEMPTS_MAX - 1), "not allowed", False))
    for number in range(HELD_MAX):
        refusals.hold(row(key=str(number)), 0.0)
    assert refusals.must_park(Refused(row(), "not allowed", False))


@pytest.mark.parametrize(
    ("error", "refusal", "hopeless"),
    [
        (errors.MessageSizeTooLargeError(), True, True),
        (ValueError("larger than a batch"), True, True),
        (errors.TopicAuthorizationFailedError(), True, False),
        (errors.KafkaConnectionError(), False, False),
        (errors.NotEnoughReplicasError(), False, False),
        (errors.KafkaTimeoutError(), False, False),
        (errors.OutOfOrderSequenceNumber(), False, False),
    ],
)
def test_only_errors_about_a_record_are_refusals(
    error: Exception, refusal: bool, hopeless: bool
) -> None:
    """Errors about the way to the broker are waited for; they never park a row."""
    assert (is_refusal(error), is_hopeless(error)) == (refusal, hopeless)


def test_shard_of_an_aggregate_never_changes() -> None:
    """The shard is a fixed function of the id, so releases and processes agree."""
    order = "6f1f9a52-7d3a-4b3e-9a3f-1f8d7d6c5b4a"
    assert shard_of(order) == 1
    assert {shard_of(f"{n}") for n in range(200)} == set(range(SHARDS))
